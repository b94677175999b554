"""What works for Llama works for the other families: the loss, LoRA and full training, saving and merging.

Tiny random models with odd sizes, made here from transformers' own configurations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import tiny
from tunesmith.adapters.base import Adapter
from tunesmith.adapters.config import FullSpec, LoraSpec
from tunesmith.engine.objective import TorchBatch
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft

IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
COMMON = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, **IDS,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**COMMON),
    "llama tied": lambda: transformers.LlamaConfig(**COMMON, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**COMMON),
    "qwen3": lambda: transformers.Qwen3Config(**COMMON, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**COMMON, sliding_window=4, head_dim=8),
    "gemma2": lambda: tiny.config("gemma2"),
    "gemma3": lambda: transformers.Gemma3TextConfig(**COMMON, head_dim=8, sliding_window=4),
    "phi3": lambda: transformers.Phi3Config(**COMMON),
    "gpt2": lambda: tiny.config("gpt2"),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**{k: v for k, v in COMMON.items() if k != "num_key_value_heads"}),
    "olmo2": lambda: transformers.Olmo2Config(**COMMON),
    "granite": lambda: transformers.GraniteConfig(**COMMON, logits_scaling=3.0, embedding_multiplier=2.0),
}
every_model = pytest.mark.parametrize("kind", CONFIGS)
INPUT_BL = torch.tensor([[1, 5, 9, 13, 17, 21, 7], [1, 90, 80, 70, 60, 2, 0]])
MASK_BL = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])
WEIGHT_BL = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 0]], dtype=torch.float32)
BATCH = TorchBatch(INPUT_BL, MASK_BL, WEIGHT_BL)


def _model(kind: str) -> Any:
    torch.manual_seed(3)
    made = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind](), dtype=torch.float32)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
    return made.eval()


def _attached(kind: str, spec: LoraSpec | FullSpec) -> tuple[Any, Adapter]:
    model, adapter = _model(kind), spec.build()
    torch.manual_seed(4)
    adapter.attach(model)
    return model, adapter


def _trained(kind: str, spec: LoraSpec | FullSpec, steps: int = 8) -> tuple[Any, Adapter, list[float]]:
    model, adapter = _attached(kind, spec)
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.01)
    losses = []
    for _ in range(steps):
        loss = Sft(SftSpec()).loss_sum(model, BATCH) / WEIGHT_BL.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, adapter, losses


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=INPUT_BL, attention_mask=MASK_BL, use_cache=False).logits


@every_model
def test_the_loss_is_the_plain_forward_one(kind: str) -> None:
    model = _model(kind)
    labels = torch.where(WEIGHT_BL > 0, INPUT_BL, -100)
    with torch.no_grad():
        plain = model(input_ids=INPUT_BL, attention_mask=MASK_BL, labels=labels, use_cache=False).loss
        ours = Sft(SftSpec()).loss_sum(model, BATCH) / WEIGHT_BL.sum()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


@every_model
@pytest.mark.parametrize(
    "spec", [LoraSpec(r=4, alpha=8), LoraSpec(r=4, alpha=8, dora=True), FullSpec()], ids=["lora", "dora", "full"]
)
def test_it_learns_saves_loads_and_merges(kind: str, spec: LoraSpec | FullSpec, tmp_path: Path) -> None:
    model, adapter, losses = _trained(kind, spec)
    assert losses[-1] < 0.9 * losses[0]
    wanted = _logits(model)
    assert not torch.allclose(wanted, _logits(_model(kind)), atol=1e-2)
    adapter.save(tmp_path, "some/base")
    again, loaded = _attached(kind, spec)
    loaded.load(tmp_path)
    torch.testing.assert_close(_logits(again), wanted, rtol=0, atol=0)
    adapter.merge()
    torch.testing.assert_close(_logits(model), wanted, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path / "merged")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(_logits(plain.eval()), wanted, rtol=1e-4, atol=1e-4)
