"""Supervised fine-tuning on packed conversations: the same training, but for the padding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny

Cli = Callable[..., tiny.Result]
WHOLE = {"max_steps": 3, "batch_size": 100, "max_length": 100, "learning_rate": 0.01}
"""Every row in every step, so that steps of packed and of plain rows are the same."""
LORA = {"type": "lora", "r": 4, "alpha": 8}


def _steps(run: Path) -> list[Any]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if "learning_rate" in line]


def _task(folder: Path, base: Path, method: Any, **sections: Any) -> Path:
    training = tiny.recipe(base)["training"] | WHOLE
    return tiny.write_task(folder, base, method=method, adapter=LORA, training=training, **sections)


def test_the_same_steps_as_without_packing(base: Path, tmp_path: Path, cli: Cli) -> None:
    found = []
    for packing in (False, True):
        recipe = _task(tmp_path / str(packing), base, {"type": "sft", "packing": packing})
        done = cli("run", recipe, "--out", tmp_path / str(packing) / "run", "--json")
        assert done.code == 0, done.err
        found.append(tmp_path / str(packing) / "run")
    plain, packed = map(_steps, found)
    assert [step["loss"] for step in packed] == pytest.approx([step["loss"] for step in plain], rel=1e-4)
    assert [step["gradient_norm"] for step in packed] == pytest.approx(
        [step["gradient_norm"] for step in plain], rel=1e-3
    )
    assert [step["tokens"] for step in packed] == [step["tokens"] for step in plain]
    facts = [json.loads((run / "run.json").read_text("utf-8")) for run in found]
    assert facts[0]["data_root"] == facts[1]["data_root"], "the same rows"
    assert facts[0]["labelled_tokens"] == facts[1]["labelled_tokens"]
    assert "supervised fine-tuning on packed conversations" in (found[1] / "report.html").read_text("utf-8")


def test_rows_in_order_cannot_be_packed(base: Path, tmp_path: Path, cli: Cli) -> None:
    data = {"train": "train.jsonl", "curriculum": {"by": "length"}}
    recipe = _task(tmp_path, base, {"type": "sft", "packing": True}, data=data)
    done = cli("train", recipe, "--out", tmp_path / "run")
    assert done.code == 3, done.err
    assert "method.packing" in done.err
