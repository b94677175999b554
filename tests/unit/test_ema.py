"""The running mean of the weights, and what is kept of a run that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_loss import _plan, _rows, _training

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora
from tunesmith.core.events import Event, StepDone
from tunesmith.engine.ema import Ema
from tunesmith.engine.loop import Loop, Outcome, Plan


def test_the_mean_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    ema = Ema(0.5, {"w": weight})
    shadow = 1.0
    for step, value in enumerate((3.0, 5.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 7.0)):
        weight.data.fill_(value)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        shadow = decay * shadow + (1 - decay) * value
    assert float(ema.shadow["w"]) == pytest.approx(shadow)
    with ema.applied():
        assert float(weight.detach()) == pytest.approx(shadow)
    assert float(weight.detach()) == 7.0


def _run(folder: Path, *, ema: float | None, resume: bool = False, stop_at: int | None = None) -> tuple[Outcome, Any]:
    folder.mkdir(exist_ok=True)
    model, adapter = tiny.model(), Lora(LoraSpec(r=2))
    torch.manual_seed(0)
    adapter.attach(model)

    def sink(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == stop_at:
            raise KeyboardInterrupt

    training = _training(batch_size=4, epochs=1, ema=ema, checkpoint_every=2, evaluate_every=5)
    plan = _plan(folder, model, adapter.parameters(), _rows(40), training)
    plan = Plan(**vars(plan) | {"sink": sink, "validation": _rows(6)})
    return Loop(plan).run(resume=resume), adapter


def test_the_mean_weights_are_validated_and_kept(tmp_path: Path) -> None:
    plain, raw = _run(tmp_path / "plain", ema=None)
    mean, smooth = _run(tmp_path / "mean", ema=0.9)
    assert plain.progress.train_curve == mean.progress.train_curve, "the mean must not change what is trained"
    assert plain.progress.validation_curve != mean.progress.validation_curve
    mine, theirs = smooth.parameters(), raw.parameters()
    assert all(not torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_resumed_run_keeps_the_same_mean(tmp_path: Path) -> None:
    whole, one = _run(tmp_path / "whole", ema=0.9)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "cut", ema=0.9, stop_at=7)
    resumed, other = _run(tmp_path / "cut", ema=0.9, resume=True)
    assert resumed.progress.validation_curve == whole.progress.validation_curve
    for name, parameter in one.parameters().items():
        assert torch.equal(parameter, other.parameters()[name])
