"""Folders of finished runs made by hand: the files that commands read which load no model."""

from __future__ import annotations

from pathlib import Path

from tunesmith.pipelines.rundir import RunDir


def run(folder: Path, rows: int = 12, tuned: str = "yes", reference: str = "yes") -> Path:
    """The files of a finished run that rating reads."""
    made = RunDir.create(folder, resume=False)
    made.update(status="finished")
    made.write_json("evaluation.json", {"verdict": "pass"})
    made.write_lines(
        "predictions.jsonl",
        [
            {"prompt": [{"role": "user", "content": f"question {i}"}], "reference": f"{reference} {i}",
             "base": f"no {i}", "tuned": "no 3" if i == 3 else f"{tuned} {i}"}
            for i in range(rows)
        ],
    )  # fmt: skip
    return folder
