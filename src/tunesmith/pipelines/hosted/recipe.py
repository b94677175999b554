"""A job's request to a recipe. What "auto" becomes is told in `docs/jobs.md`; a test compares."""

from __future__ import annotations

import json
from typing import Any

from ...data.load import Loaded
from ...models.refs import Base
from ..recipe import RunSpec
from ..start import usual_metrics
from .validate import MethodName

_BUNDLED_RATES: dict[MethodName, float] = {"supervised": 2e-3, "dpo": 1e-4}
_RATES: dict[MethodName, float] = {"supervised": 2e-4, "dpo": 2e-5}
"""Learning rates that a multiplier of 1 stands for: small bases take ten times as much."""
_REHEARSED = (32, 256)
_WAIVED = (
    "no_supervision", "template_refuses", "near_leakage", "too_long", "served_prompt_differs", "too_few_rows",
    "overlap", "overlap_held_out",
)  # fmt: skip
_WHY = "a hosted job trains on what its file holds; the data audit of its run tells"
_CHECKS_AN_EPOCH = 200
"""Steps after which there is a checkpoint in any case: a lost worker costs no more than these."""


def hyperparameters(asked: dict[str, Any], method: MethodName, rows: int) -> dict[str, Any]:
    """Numbers for "auto", by the number of training rows."""
    auto: dict[str, Any] = {
        "n_epochs": _epochs(method, rows), "batch_size": max(1, min(8, rows // 20)), "learning_rate_multiplier": 1.0,
    }  # fmt: skip
    if method == "dpo":
        auto["beta"] = 0.1
    given = {name: asked.get(name) for name in auto}
    return {name: auto[name] if value in (None, "auto") else value for name, value in given.items()}


def _epochs(method: MethodName, rows: int) -> int:
    """Enough to see some thousands of rows; preferences are learned in fewer passes."""
    return max(3, min(10, 5000 // rows)) if method == "supervised" else max(1, min(3, 1000 // rows))


def write(
    *, method: MethodName, base: Base, values: dict[str, Any], seed: int, train: Loaded, rows: int, validation: bool,
    test: bool,
) -> str:  # fmt: skip
    """The recipe as text; its files lie beside it."""
    small = base.name.startswith("bundled/")
    rate = (_BUNDLED_RATES if small else _RATES)[method] * float(values["learning_rate_multiplier"])
    epoch = -(-rows // int(values["batch_size"]))
    parts = -(-epoch // _CHECKS_AN_EPOCH)
    recipe = {
        "name": "job",
        "seed": seed,
        "base": base.name,
        "data": {
            "train": "train.jsonl", "validation": "validation.jsonl" if validation else 0.0,
            "test": "test.jsonl" if test else None, "on_long": "truncate", "on_near_overlap": "warn",
            "waive": dict.fromkeys(_WAIVED, _WHY),
        },
        "method": _method(method, values, base, rows),
        "adapter": {"type": "lora", "r": 32 if small else 16, "alpha": 64 if small else 32},
        "training": {
            "epochs": values["n_epochs"], "batch_size": values["batch_size"], "learning_rate": rate,
            "evaluate_every": epoch, "checkpoint_every": -(-epoch // parts), "keep_checkpoints": 3 * parts + 1,
            "early_stopping": None,
        },
        "evaluation": {
            "metrics": ["preference_accuracy"] if method == "dpo" else usual_metrics(train), "base": "after",
        },
    }  # fmt: skip
    RunSpec.model_validate(recipe)  # what we write must be right
    return "# Made of a fine-tuning job. JSON is YAML too.\n" + json.dumps(recipe, indent=1, ensure_ascii=False) + "\n"


def steps_an_epoch(recipe: RunSpec) -> int:
    """Between two of a job's own checkpoints."""
    return int(recipe.training.evaluate_every)


def _method(method: MethodName, values: dict[str, Any], base: Base, rows: int) -> dict[str, Any]:
    if method == "dpo":
        return {"type": "preference", "loss": {"type": "dpo", "beta": values["beta"]}}
    if base.encoder_decoder or base.untrained:  # it writes nothing by itself that it could reread
        return {"type": "sft", "token_accuracy": True}
    least, most = _REHEARSED
    return {"type": "sft", "token_accuracy": True, "rehearsal": {"rows": max(least, min(most, rows))}}
