"""Tiny models, a tiny task and ways to run the command line, for tests of whole journeys."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

THINGS = ("ball", "cat", "dog", "car", "hat", "cup")
NAMES = ("Tom", "Lily", "Sue", "Ben", "Max")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# Threads that fight over two cores make tiny matrix products a hundred times slower.
torch.set_num_threads(1)
CONTEXT = 160
ENCODER_DECODERS = ("t5", "t5 v1.1", "bart")
TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\\n' + m['content'] + '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Result:
    """What a command ended with."""

    code: int
    out: str
    err: str


def config(kind: str, vocabulary: int = 96) -> Any:
    """The configuration of a tiny random model; odd sizes show what is mixed up."""
    from transformers import Gemma2Config, GPT2Config, LlamaConfig, Qwen3MoeConfig

    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    common = {
        "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, **ids,
    }  # fmt: skip
    if kind == "llama":
        return LlamaConfig(**common)
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
        return GPT2Config(vocab_size=vocabulary, **sizes, **ids)
    if kind in ENCODER_DECODERS:
        return _encoder_decoder_config(kind, vocabulary, ids)
    if kind == "qwen3-moe":
        # A router loss as large as the other: code that forgets it cannot pass.
        experts = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
        return Qwen3MoeConfig(**common, **experts, output_router_logits=True, router_aux_loss_coef=1.5)
    assert kind == "gemma2"
    # A cap so low that it bends the logits: code that forgets it cannot pass.
    return Gemma2Config(**common, head_dim=8, sliding_window=16, final_logit_softcapping=0.5, query_pre_attn_scalar=8)


def _encoder_decoder_config(kind: str, vocabulary: int, ids: dict[str, int]) -> Any:
    """T5 as it was published first and in version 1.1, and BART; the decoder is deeper than the encoder."""
    from transformers import BartConfig, T5Config

    if kind == "bart":
        heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
        widths = {"encoder_ffn_dim": 56, "decoder_ffn_dim": 40, "encoder_layers": 2, "decoder_layers": 3}
        # Ours forces no token at an answer's end; a tied random BART repeats its start for ever.
        more = {"decoder_start_token_id": 2, "forced_eos_token_id": None, "tie_word_embeddings": False}
        return BartConfig(
            vocab_size=vocabulary, d_model=32, max_position_embeddings=CONTEXT, **heads, **widths, **more, **ids
        )
    sizes = {"d_model": 32, "d_kv": 6, "d_ff": 56, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
    newer = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if kind == "t5 v1.1" else {}
    published = {"decoder_start_token_id": 0, "n_positions": 24}  # which binds nothing
    return T5Config(vocab_size=vocabulary, **sizes, **newer, **published, **ids)


def model(kind: str = "llama", seed: int = 0, vocabulary: int = 96) -> Any:
    """A tiny random model in float32 and evaluation mode."""
    return random_model(config(kind, vocabulary), seed)


def random_model(of: Any, seed: int = 0) -> Any:
    """A random model of a configuration, in float32 and evaluation mode."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch.manual_seed(seed)
    kind = AutoModelForSeq2SeqLM if of.is_encoder_decoder else AutoModelForCausalLM
    made = kind.from_config(of, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if of.model_type == "t5":
                # A random decoder with tied tables repeats the token it sees, unless its layers are loud.
                parameter.mul_(8.0 if name.startswith("decoder") and name.split(".")[-2] in ("o", "wo") else 1.0)
            elif parameter.ndim > 1:  # the usual start of 0.02 gives nearly flat logits, and ties hide errors
                parameter.mul_(6.0)
        if of.model_type == "t5" and of.feed_forward_proj == "gated-gelu":
            # transformers ties what the published 1.1 keeps apart
            made.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn_like(made.lm_head.weight))
    return made.eval()


def tokenizer() -> Any:
    """A byte-level tokenizer of 384 tokens with a chat template; a small vocabulary keeps scoring cheap."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [message["content"] for row in rows(0, 200) for message in row["messages"]]
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )


def base_folder(folder: Path, kind: str = "llama") -> Path:
    """A tiny random model with a real tokenizer, saved as a base."""
    words = tokenizer()
    model(kind, vocabulary=len(words)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def rows(first: int, count: int) -> list[dict[str, Any]]:
    """Chat rows; rows of different numbers have different prompts."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"{NAMES[i % 5]} has a {THINGS[i // 5 % 6]}, no {i}. What?"},
                {"role": "assistant", "content": THINGS[i // 5 % 6]},
            ],
            "kind": NAMES[i % 5],
        }
        for i in range(first, first + count)
    ]


def write_rows(path: Path, content: list[dict[str, Any]]) -> Path:
    """JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")
    return path


def recipe(base: Path | str, **sections: Any) -> dict[str, Any]:
    """The small run that all journeys here take: dropout on, a checkpoint every 3 steps."""
    return {
        "name": "small",
        "seed": 3,
        "base": str(base),
        "data": {"train": "train.jsonl", "validation": 0.1, "test": "test.jsonl"},
        "adapter": {"type": "lora", "r": 4, "alpha": 8, "dropout": 0.2},
        "training": {
            "epochs": 10, "max_steps": 30, "batch_size": 4, "learning_rate": 0.005, "checkpoint_every": 3,
            "evaluate_every": 10, "early_stopping": None, "precision": "fp32",
        },
        "evaluation": {"metrics": ["exact_match", "token_f1"], "slices": ["kind"], "max_tokens": 8},
        "gate": {"require": {"exact_match": -1.0}, "max_forgetting": None},
    } | sections  # fmt: skip


def write_task(folder: Path, base: Path | str, **sections: Any) -> Path:
    """Recipe, training rows and test rows in a folder; gives the recipe's path. JSON is YAML too."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", rows(0, 60))
    write_rows(folder / "test.jsonl", rows(100, 8))
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe(base, **sections), indent=1), "utf-8")
    return path


def tunesmith(
    *arguments: object, stdin: str = "", patience: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; at most `patience` seconds."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("tunesmith")), *map(str, arguments)],
        input=stdin, capture_output=True, text=True, timeout=patience, check=False,
        env={**os.environ, **ENVIRONMENT, "HF_HUB_OFFLINE": "1", **environment},
    )  # fmt: skip


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
