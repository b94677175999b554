"""A step through a decoder of Llama's shape gives what the whole forward gives; what was changed is not taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import MistralConfig, Qwen2Config, Qwen3Config

import tiny
from tunesmith.adapters import config
from tunesmith.inference.cache import cache
from tunesmith.inference.llama import is_shaped
from tunesmith.inference.steppers import DecoderOnly

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 160, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
MODELS = {
    "llama": lambda: tiny.config("llama"),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=None),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=12),
}


def _rows() -> list[list[int]]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randint(3, 90, (length,), generator=draw).tolist() for length in (2, 9, 20)]


@torch.inference_mode()
def _largest_difference(model: Any) -> float:
    """Of the logits, over 80 steps of which one leaves a row out."""
    quick, usual = DecoderOnly(model, _rows(), 0), DecoderOnly(model, _rows(), 0)
    assert quick._shaped
    usual._shaped = False
    most = 0.0
    for number in range(80):
        logits, wanted = quick.logits(), usual.logits()
        most = max(most, float((logits - wanted).abs().max()))
        tokens = wanted.argmax(-1)
        if number == 40:
            keep = torch.tensor([0, 2])
            quick.keep(keep)
            usual.keep(keep)
            tokens = tokens[keep]
        quick.append(tokens)
        usual.append(tokens)
    return most


@pytest.mark.parametrize("kind", MODELS)
def test_logits_are_those_of_the_whole_forward(kind: str) -> None:
    assert _largest_difference(tiny.random_model(MODELS[kind]()).eval()) < 2e-4  # of logits up to 40


@torch.inference_mode()
def test_in_bf16_it_is_as_near_to_float32_as_the_whole_forward() -> None:
    exact, model = tiny.model("llama").eval(), tiny.model("llama").eval().to(torch.bfloat16)
    wanted, quick, usual = (DecoderOnly(one, _rows(), 0) for one in (exact, model, model))
    usual._shaped = False
    errors: list[tuple[float, float]] = []
    for _ in range(40):
        logits = wanted.logits()
        errors.append(tuple(float((one.logits() - logits).square().mean().sqrt()) for one in (quick, usual)))
        for one in (wanted, quick, usual):
            one.append(logits.argmax(-1))
    (ours, theirs), size = torch.tensor(errors).mean(0).tolist(), float(logits.square().mean().sqrt())
    assert ours < 1.1 * theirs < 0.05 * size


@pytest.mark.parametrize(
    "spec", [config.LoraSpec(r=4), config.LoraSpec(r=4, dora=True), config.Ia3Spec()], ids=["lora", "dora", "ia3"]
)
def test_adapters_within_the_linear_maps_have_their_effect(spec: Any) -> None:
    plain = tiny.model("llama")
    model = tiny.model("llama")
    adapter = spec.build()
    adapter.attach(model)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.3)
    model.eval()
    assert _largest_difference(model) < 2e-4
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(model(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-2)


@pytest.mark.parametrize("spec", [config.BottleneckSpec(width=6), config.PrefixSpec(), config.PromptSpec()])
def test_adapters_beside_them_are_left_to_the_whole_forward(spec: Any) -> None:
    model = tiny.model("llama")
    spec.build().attach(model)
    assert not is_shaped(model, cache(model.config))


def test_other_models_and_other_caches_are_left_to_it() -> None:
    gemma = tiny.model("gemma2")
    assert not is_shaped(gemma, cache(gemma.config))
    windowed = tiny.random_model(MistralConfig(**SIZES, sliding_window=8))
    assert not is_shaped(windowed, cache(windowed.config))
    changed = tiny.model("llama")
    changed.model.layers[1].mlp.forward = lambda x: x
    assert not is_shaped(changed, cache(changed.config))
