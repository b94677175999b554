"""The comparison of ways that was made with a run, for its report."""

from __future__ import annotations

from typing import Any

from ..report import WayFacts, WaysFacts
from .rundir import RunDir

FILE = "ways.json"
"""In a run's folder: what `tunesmith compare` found with it."""


def ways(run: RunDir) -> WaysFacts | None:
    """None where no comparison was made."""
    if not (run.path / FILE).is_file():
        return None
    found = run.read_json(FILE)
    advice = found["recommendation"]
    return WaysFacts(
        rows=found["rows"], metric=found["metric"], ways=[_way(way, found["metric"]) for way in found["ways"]],
        take=advice["take"], reasons=advice["reasons"],
    )  # fmt: skip


def _way(way: dict[str, Any], metric: str) -> WayFacts:
    figure, paid = way["metrics"][metric], way["break_even"]
    even = ""
    if paid and paid["answers"]:
        even = f"beside {paid['against']} paid after {paid['answers']:,.0f} answers"
    return WayFacts(
        name=way["name"], value=figure["value"], ci95=tuple(figure["ci95"]), tokens_in=way["tokens_in"],
        tokens_out=way["tokens_out"], seconds=way["seconds_per_answer"], cost=way["cost_per_1000"],
        set_up_seconds=way["set_up_seconds"], break_even=even, model=way.get("model", ""),
        memory_mb=way.get("memory_mb"),
    )  # fmt: skip
