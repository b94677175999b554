"""Runs on disk: a list, and two side by side. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ContentError, TunesmithError
from .rundir import RunDir

_COMPARED = (
    "base",
    "data_fingerprint",
    "trained_tokens",
    "tokens_per_s",
    "peak_memory_mb",
    "kept_step",
    "wall_seconds",
)


def listed(folder: Path) -> list[dict[str, Any]]:
    """One summary for each run below `folder`, newest first; damaged ones say so."""
    found = [summary(file.parent) for file in folder.glob("*/run.json")]
    return sorted(found, key=lambda row: str(row.get("created", "")), reverse=True)


def summary(path: Path) -> dict[str, Any]:
    """What matters of a run on one line."""
    run = RunDir.open(path)
    try:
        known = run.read_json("run.json")
    except TunesmithError as error:
        return {"path": str(path), "status": "damaged", "why": error.what}
    row = {key: known.get(key) for key in ("id", "name", "status", "verdict", "created", "base")}
    row["path"] = str(path)
    if (path / "evaluation.json").is_file():
        try:
            first = run.read_json("evaluation.json")["metrics"][0]
        except TunesmithError as error:
            return row | {"status": "damaged", "why": error.what}
        row |= {"metric": first["name"], "base_score": first["base"], "tuned_score": first["tuned"]}
    return row


def side_by_side(a: Path, b: Path) -> dict[str, Any]:
    """Facts, metrics and differing recipe values of two runs. Metrics are comparable on the same test rows only."""
    runs = [RunDir.open(path) for path in (a, b)]
    known = [run.read_json("run.json") for run in runs]
    scores = [{m["name"]: m for m in run.read_json("evaluation.json")["metrics"]} for run in runs]
    if not scores[0].keys() & scores[1].keys():
        raise ContentError("the two runs share no metric", mend="compare runs of the same task")
    tests = [_test_hash(run) for run in runs]
    flat = [_flatten(run.recipe().as_json()) for run in runs]
    return {
        "runs": [str(a), str(b)],
        "same_test_rows": tests[0] == tests[1],
        "metrics": [
            {"name": name, "a": scores[0][name]["tuned"], "b": scores[1][name]["tuned"],
             "difference": scores[1][name]["tuned"] - scores[0][name]["tuned"]}
            for name in scores[0] if name in scores[1]
        ],
        "facts": [{"name": key, "a": known[0].get(key), "b": known[1].get(key)} for key in _COMPARED],
        "recipe": [
            {"key": key, "a": flat[0].get(key), "b": flat[1].get(key)}
            for key in sorted(flat[0].keys() | flat[1].keys()) if flat[0].get(key) != flat[1].get(key)
        ],
    }  # fmt: skip


def _test_hash(run: RunDir) -> list[str]:
    return [f["sha256"] for f in run.read_json("data-audit.json")["files"] if f["role"] == "test"]


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flatten(item, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}
