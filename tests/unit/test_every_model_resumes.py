"""A training of any family that was interrupted and continued ends in the same weights as one that was not, bit for
bit. Tiny random models with dropout; the continuation starts from nothing but the base and the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import families
import tiny
from tunesmith.adapters.config import (
    AdapterBase,
    BitFitSpec,
    BottleneckSpec,
    FullSpec,
    Ia3Spec,
    LayersSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    VeraSpec,
)
from tunesmith.core.events import Event, Sink, StepDone, silent
from tunesmith.data.tokenize import Encoded
from tunesmith.engine.config import TrainingSpec
from tunesmith.engine.loop import Loop, Outcome, Plan
from tunesmith.engine.metrics_log import MetricsLog
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft

SPECS: dict[str, AdapterBase] = {"lora": LoraSpec(r=4, alpha=8, dropout=0.2), "full": FullSpec()}
OTHERS: dict[str, AdapterBase] = {
    "lora+ on int8": LoraSpec(r=4, dropout=0.2, lora_plus=16.0, quantize="int8"),
    "layers": LayersSpec(last=1),
    "bitfit": BitFitSpec(),
    "ia3": Ia3Spec(),
    "vera": VeraSpec(r=8, dropout=0.2),
    "bottleneck": BottleneckSpec(width=8),
    "prompt": PromptSpec(tokens=3),
    "p-tuning": PTuningSpec(tokens=3, width=8),
    "prefix": PrefixSpec(tokens=3),
}


class PulledPlugError(Exception):
    """What ends the process."""


def _rows() -> list[Encoded]:
    """Sixteen rows of 6 to 17 tokens whose later half carries loss: four steps of four."""
    draw = np.random.default_rng(2)
    made = []
    for _ in range(16):
        length = int(draw.integers(6, 18))
        weight = np.zeros(length, dtype=np.float32)
        weight[length // 2 :] = 1
        made.append(Encoded(draw.integers(3, 95, length).astype(np.int32), weight))
    return made


def _train(kind: str, spec: AdapterBase, folder: Path, *, resume: bool = False, sink: Sink = silent) -> Any:
    """From the base on, as a new process would: (outcome, trained weights by name)."""
    folder.mkdir(exist_ok=True)
    model, adapter = tiny.random_model(families.CONFIGS[kind](), seed=3), spec.build()
    torch.manual_seed(4)
    adapter.attach(model)
    rows = _rows()
    training = TrainingSpec(
        epochs=1, batch_size=4, learning_rate=1e-2, precision="fp32", checkpoint_every=2, evaluate_every=4
    )
    plan = Plan(
        model=model, trainable=adapter.parameters(), objective=Sft(SftSpec()), train=rows, repeats=[1] * len(rows),
        validation=[], pad_id=0, training=training, seed=3, folder=folder / "checkpoints",
        log=MetricsLog(folder / "metrics.jsonl"), identity={}, sink=sink,
        rates=adapter.rates(),
    )  # fmt: skip
    outcome: Outcome = Loop(plan).run(resume=resume)
    return outcome, {name: p.detach() for name, p in adapter.parameters().items()}


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, name) for kind in families.CONFIGS for name in SPECS] + [("gpt2", name) for name in OTHERS],
)
def test_interrupted_and_resumed_is_uninterrupted(kind: str, method: str, tmp_path: Path) -> None:
    spec = (SPECS | OTHERS)[method]

    def pull(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise PulledPlugError

    whole, wanted = _train(kind, spec, tmp_path / "whole")
    assert whole.progress.step == 4
    with pytest.raises(PulledPlugError):
        _train(kind, spec, tmp_path / "cut", sink=pull)
    assert [p.name for p in (tmp_path / "cut" / "checkpoints").iterdir()] == ["step-2"]
    said: list[str] = []
    resumed, found = _train(
        kind, spec, tmp_path / "cut", resume=True, sink=lambda e: said.append(getattr(e, "text", ""))
    )
    assert "resumed after step 2 of 4" in said
    assert resumed.progress.train_curve == whole.progress.train_curve
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.equal(found[name], weight), name
