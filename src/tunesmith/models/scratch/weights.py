"""A Llama (Touvron et al. 2023, arXiv 2302.13971) with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from .config import ScratchSpec

transformers_logging.disable_progress_bar()


def fresh_model(spec: ScratchSpec, tokenizer: Any) -> torch.nn.Module:
    """The model in float32: matrices drawn from a normal distribution of deviation 0.02 by the spec's seed."""
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=spec.vocabulary, hidden_size=spec.hidden, intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers, num_attention_heads=spec.heads, num_key_value_heads=spec.key_value_heads,
        head_dim=spec.head_width, max_position_embeddings=spec.context, tie_word_embeddings=spec.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta}, eos_token_id=tokenizer.eos_token_id,
        **ids,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model: torch.nn.Module = LlamaForCausalLM(config)
    ends = [tokenizer.eos_token_id, tokenizer.bos_token_id]
    model.generation_config = GenerationConfig(eos_token_id=ends, **ids)
    return model
