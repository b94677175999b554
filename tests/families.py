"""Every family of models that the tests hold: configurations of tiny ones with odd sizes, from transformers' own."""

from __future__ import annotations

from typing import Any

import torch
import transformers

import tiny
from tunesmith.engine.objective import TorchBatch

IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
COMMON = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, **IDS,
}  # fmt: skip
ROUTED = {"num_experts_per_tok": 2, "output_router_logits": True, "router_aux_loss_coef": 1.5}
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**COMMON),
    "llama tied": lambda: transformers.LlamaConfig(**COMMON, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**COMMON),
    "qwen3": lambda: transformers.Qwen3Config(**COMMON, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**COMMON, sliding_window=4, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(
        **COMMON,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=4,
        final_logit_softcapping=0.5,
        attn_logit_softcapping=0.5,
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(**COMMON, head_dim=8, sliding_window=4),
    "phi3": lambda: transformers.Phi3Config(**COMMON),
    "gpt2": lambda: tiny.config("gpt2"),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**{k: v for k, v in COMMON.items() if k != "num_key_value_heads"}),
    "olmo2": lambda: transformers.Olmo2Config(**COMMON),
    "granite": lambda: transformers.GraniteConfig(**COMMON, logits_scaling=3.0, embedding_multiplier=2.0),
    "qwen3-moe": lambda: tiny.config("qwen3-moe"),
    "qwen2-moe": lambda: transformers.Qwen2MoeConfig(
        **COMMON, **ROUTED, num_experts=6, moe_intermediate_size=24, shared_expert_intermediate_size=24
    ),
    "mixtral": lambda: transformers.MixtralConfig(**COMMON, **ROUTED, num_local_experts=6),
    "olmoe": lambda: transformers.OlmoeConfig(**COMMON, **ROUTED, num_experts=6),
    "t5": lambda: tiny.config("t5"),
    "t5 v1.1": lambda: tiny.config("t5 v1.1"),
    "bart": lambda: tiny.config("bart"),
}
INPUT_BL = torch.tensor([[1, 5, 9, 13, 17, 21, 7], [1, 90, 80, 70, 60, 2, 0]])
MASK_BL = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])
WEIGHT_BL = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 0]], dtype=torch.float32)
BATCH = TorchBatch(INPUT_BL, MASK_BL, WEIGHT_BL)
ROUTERS = ("qwen3-moe", "qwen2-moe", "mixtral", "olmoe")
TIED = ("llama tied", "gemma2", "gemma3", "gpt2", "t5")
ENCODER_DECODERS = tiny.ENCODER_DECODERS
DECODERS = tuple(kind for kind in CONFIGS if kind not in ENCODER_DECODERS)


def model(kind: str, **other: Any) -> Any:
    """A tiny random model; `other` changes its configuration."""
    config = CONFIGS[kind]()
    for key, value in other.items():
        setattr(config, key, value)
    return tiny.random_model(config, seed=3)
