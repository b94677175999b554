"""A run under a curriculum, with test rows drawn from the training file, that was killed and continued ends in the same
weights and is judged on the same rows as one that was not.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import processes
import tiny

DATA: dict[str, Any] = {
    "train": "train.jsonl", "test": 0.15, "validation": 0.15, "split": {"stratify": "label"}, "cap_per_label": 8,
    "curriculum": {"by": "base_loss", "epochs": 2},
}  # fmt: skip


def test_killed_and_resumed_under_a_curriculum_equals_uninterrupted(tmp_path: Path) -> None:
    recipe = tiny.write_task(tmp_path / "task", tiny.base_folder(tmp_path / "base"), data=DATA)
    whole = tiny.tunesmith("run", recipe, "--out", tmp_path / "whole", "--quiet")
    assert whole.returncode == 0, whole.stderr
    run = tmp_path / "run"
    running = processes.start(tmp_path / "log-0", "run", recipe, "--out", run)
    assert running.kill(signal.SIGKILL, lambda: any((run / "checkpoints").glob("step-*"))) == -signal.SIGKILL
    assert not (run / "adapter").exists()
    again = processes.start(tmp_path / "log-1", "run", recipe, "--out", run, "--resume")
    assert again.wait() == 0, again.said()
    for name in ("adapter/adapter_model.safetensors", "predictions.jsonl", "evaluation.json", "base-losses.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert "the base scores 43 training rows" in running.said()
    assert "the base scores" not in again.said()
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [row["source"].partition(":")[0] for row in rows] == ["train.jsonl"] * 9
    stored = json.loads((run / "base-losses.json").read_text("utf-8"))
    assert len(set(stored["losses"])) > 30
