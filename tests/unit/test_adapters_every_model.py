"""The families of adapters on the families of bases: what is not refused with an error that mends works as promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import families
import tiny
from tunesmith.adapters.base import Adapter
from tunesmith.adapters.config import (
    BitFitSpec,
    BottleneckSpec,
    Ia3Spec,
    LayersSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    VeraSpec,
)
from tunesmith.core.errors import ContentError
from tunesmith.inference.generate import Sampling, generate
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft

SPECS: dict[str, Any] = {
    "layers": LayersSpec(last=1),
    "bitfit": BitFitSpec(),
    "ia3": Ia3Spec(),
    "vera": VeraSpec(r=8),
    "int8": LoraSpec(r=2, quantize="int8"),
    "bottleneck": BottleneckSpec(style="houlsby", width=6),
    "prompt": PromptSpec(tokens=3),
    "p-tuning": PTuningSpec(tokens=3, width=8),
    "prefix": PrefixSpec(tokens=3),
}
ENCODER_DECODERS = ("t5", "t5 v1.1", "bart")
ROUTERS = ("qwen3-moe", "qwen2-moe", "mixtral", "olmoe")
"""With a router's loss asked for, here."""
BIASED = ("qwen2", "qwen2-moe", "gpt2", "gpt-neox", "bart")
WINDOWED = ("mistral", "gemma2", "gemma3")
REFUSED = {
    "bitfit": {kind for kind in families.CONFIGS if kind not in BIASED},
    "bottleneck": {*ENCODER_DECODERS},
    "prompt": {*ENCODER_DECODERS, *ROUTERS},
    "p-tuning": {*ENCODER_DECODERS, *ROUTERS},
    "prefix": {*ENCODER_DECODERS, *WINDOWED},
}
CASES = [(name, kind) for name in SPECS for kind in families.CONFIGS]


def _attached(name: str, kind: str) -> tuple[Any, Adapter]:
    model, adapter = tiny.random_model(families.CONFIGS[kind](), seed=3), SPECS[name].build()
    torch.manual_seed(4)
    adapter.attach(model)
    return model, adapter


def _loss(model: Any) -> torch.Tensor:
    return Sft(SftSpec()).loss_sum(model, families.BATCH) / families.WEIGHT_BL.sum()


def _value(model: Any) -> float:
    with torch.no_grad():
        return float(_loss(model))


@pytest.mark.parametrize(("name", "kind"), [c for c in CASES if c[1] in REFUSED.get(c[0], ())])
def test_what_cannot_be_is_refused_with_a_way_out(name: str, kind: str) -> None:
    with pytest.raises(ContentError) as caught:
        _attached(name, kind)
    assert "adapter" in str(caught.value.mend)


@pytest.mark.parametrize(("name", "kind"), [c for c in CASES if c[1] not in REFUSED.get(c[0], ())])
def test_it_learns_saves_loads_answers_and_gives_the_base_back(name: str, kind: str, tmp_path: Path) -> None:
    model, adapter = _attached(name, kind)
    with adapter.disabled():
        base = _value(model)
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.02)
    first = _value(model)
    for _ in range(8):
        optimizer.zero_grad()
        _loss(model).backward()
        optimizer.step()
    tuned = _value(model)
    assert tuned < first, "it does not learn"
    with adapter.disabled():
        assert _value(model) == base
    adapter.save(tmp_path, "base")
    again, other = _attached(name, kind)
    other.load(tmp_path)
    assert _value(again) == tuned
    prompts = [[1, 5, 9, 13, 17, 21, 30, 31], [1, 90], [1, 7, 8, 9]]
    ends: dict[str, Any] = {"pad_id": 0, "stop_ids": set()}
    together = generate(model, prompts, Sampling(max_tokens=6), **ends)
    assert together == [generate(model, [prompt], Sampling(max_tokens=6), **ends)[0] for prompt in prompts]
