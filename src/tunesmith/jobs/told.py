"""`metrics.jsonl` as the wire tells it: one line for each step, in the hosted service's words and keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .model import Metric

_KEYS = {
    "loss": "train_loss", "token_accuracy": "train_mean_token_accuracy", "accuracy": "train_accuracy",
    "margin": "train_reward_margin",
}  # fmt: skip
_VALIDATION_KEYS = {
    "validation_loss": ("valid_loss", "full_valid_loss"),
    "validation_token_accuracy": ("valid_mean_token_accuracy", "full_valid_mean_token_accuracy"),
    "validation_accuracy": ("valid_accuracy",), "validation_margin": ("valid_reward_margin",),
}  # fmt: skip
"""Every validation is over all validation rows, so the partial and the full figure are one."""


class Steps:
    """Reads a growing `metrics.jsonl`. A step is told once its last line is there: its validation comes behind it."""

    def __init__(self, path: Path):
        self._path = path
        self._place: tuple[int, int] | None = None
        """(inode, bytes read): another inode is another file, for a resumed run writes it anew."""
        self._open: dict[str, Any] = {}
        self._told = 0

    def read(self, *, to_the_end: bool = False) -> list[dict[str, Any]]:
        """The figures of each step that is complete; with `to_the_end` the last one is complete too."""
        found = []
        for line in self._lines():
            step = int(line["step"])
            if self._open and step != self._open["step"]:
                found.append(self._open)
                self._open = {}
            self._open |= line
        if to_the_end and self._open:
            found.append(self._open)
            self._open = {}
        fresh = [step for step in found if step["step"] > self._told and "loss" in step]
        if fresh:
            self._told = fresh[-1]["step"]
        return fresh

    def _lines(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                inode = self._path.stat().st_ino
                if self._place is None or self._place[0] != inode:
                    self._place, self._open = (inode, 0), {}
                file.seek(self._place[1])
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._place = (inode, self._place[1] + len(whole))
        return [json.loads(line) for line in whole.splitlines()]


def metric(figures: dict[str, Any], total_steps: int | None) -> Metric:
    """A step's figures as an event: `Step 1/300: training loss=0.22`."""
    step = int(figures["step"])
    data: dict[str, Any] = {"step": step, "total_steps": total_steps}
    data |= {name: figures[key] for key, name in _KEYS.items() if figures.get(key) is not None}
    for key, names in _VALIDATION_KEYS.items():
        if figures.get(key) is not None:
            data |= dict.fromkeys(names, figures[key])
    parts = [f"training loss={_figure(data.get('train_loss'))}"]
    if "valid_loss" in data:
        loss = _figure(data["valid_loss"])
        parts += [f"validation loss={loss}", f"full validation loss={loss}"]
    return Metric(step, f"Step {step}/{total_steps or '?'}: {', '.join(parts)}", data)


def results(steps: list[dict[str, Any]]) -> bytes:
    """The result file: a CSV of every step, blank where nothing was measured."""
    columns = {
        "train_loss": "train_loss", "train_accuracy": "train_mean_token_accuracy", "valid_loss": "valid_loss",
        "valid_mean_token_accuracy": "valid_mean_token_accuracy",
    }  # fmt: skip
    lines = [",".join(["step", *columns])]
    for figures in steps:
        data = metric(figures, None).data
        cells = [data.get(name) for name in columns.values()]
        lines.append(",".join([str(data["step"]), *("" if cell is None else f"{cell:.5f}" for cell in cells)]))
    return ("\n".join(lines) + "\n").encode()


def checkpoint_metrics(figures: dict[str, Any]) -> dict[str, float]:
    """What a checkpoint tells of its step."""
    data = metric(figures, None).data
    return {name: value for name, value in data.items() if name != "total_steps"}


def _figure(value: float | None) -> str:
    return "nan" if value is None else f"{value:.2f}"
