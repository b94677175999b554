"""A run's model as the answering service takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..core.errors import ContentError, MissingError
from ..engine import precision
from ..inference.ask import NumberType, Served
from ..models.find import find
from ..models.refs import Base
from .rundir import RunDir

Wanted = Literal["auto", "bf16", "fp32"]


def served_run(path: Path, name: str, checkpoint: Path | None = None, *, number_type: Wanted = "auto") -> Served:
    """The trained model of a run, called `name`; with `checkpoint` another folder of the same kind, its adapter or
    model at an earlier step. `auto` is the number type that the run was trained in, and float32 for a whole model.

    MissingError before the training is finished; ContentError for a model that writes no answers.
    """
    run = RunDir.open(path)
    spec = run.recipe()
    if spec.method.head:
        raise ContentError(f"the model of {path} writes no answers", why=f"it is {spec.method.wording()}")
    whole = spec.adapter.trains_base
    folder = checkpoint or path / ("model" if whole else "adapter")
    if not folder.is_dir():
        raise MissingError(
            f"{path} holds no trained model yet", mend="finish it: tunesmith run RECIPE --out DIR --resume"
        )
    if whole:
        return Served(name, Base(name, folder), number_type=_type(number_type), date=run.date())
    chosen = spec.training.precision if number_type == "auto" else number_type
    return Served(name, find(spec.base), folder, spec.adapter, _type(precision.choose(chosen)), run.date())


def served_base(
    name: str, *, called: str | None = None, date: str | None = None, number_type: Wanted = "auto"
) -> Served:  # fmt: skip
    """A base by itself; `auto` is the number type that a run on this machine would choose."""
    return Served(called or name, find(name), number_type=_type(precision.choose(number_type)), date=date)


def _type(chosen: str) -> NumberType:
    return "bf16" if chosen == "bf16" else "fp32"
