"""Whether certainty is earned, for the report: of a reward model's pairs, of whole answers, of labels."""

from __future__ import annotations

from typing import Any, Literal

from ..report import BinFacts, CalibrationFacts, CertaintyFacts


def certainty(evaluation: dict[str, Any]) -> list[CertaintyFacts]:
    """What of it `evaluation.json` holds."""
    found = []
    if pairs := evaluation.get("calibration"):
        found.append(_certainty(pairs, "Certainty of the reward model", "pair"))
    if answers := evaluation.get("certainty"):
        found.append(_certainty(answers["answers"], "Certainty of whole answers", "row"))
        if labels := answers.get("labels"):
            found.append(_certainty(labels, "Certainty among the labels", "row"))
    return found


def _certainty(models: dict[str, Any], title: str, counted: Literal["row", "pair"]) -> CertaintyFacts:
    base = _calibration(models["base"]) if "base" in models else None
    return CertaintyFacts(title=title, counted=counted, base=base, tuned=_calibration(models["tuned"]))


def _calibration(model: dict[str, Any]) -> CalibrationFacts:
    """Bins of older runs have no interval."""
    bins = [
        BinFacts(
            low=one["low"], high=one["high"], count=one["pairs"], certainty=one["certainty"], right=one["accuracy"],
            right_ci95=one.get("accuracy_ci95"),
        )
        for one in model["bins"]
    ]  # fmt: skip
    return CalibrationFacts(ece=model["ece"], brier=model["brier"], bins=bins)
