"""The tables that a report has for some methods only: a reward model's certainty, a classifier's labels."""

from __future__ import annotations

from typing import Any

from ..report import TableFacts

MOST_CONFUSIONS = 10


def tables(evaluation: dict[str, Any]) -> list[TableFacts]:
    """From what `evaluation.json` holds beside what all runs have."""
    found = []
    if calibration := evaluation.get("calibration"):
        found.append(_certainty(calibration["tuned"]))
    if classes := evaluation.get("classes"):
        found += _labels(classes["base"], classes["tuned"])
    return found


def _certainty(tuned: dict[str, Any]) -> TableFacts:
    rows = [
        (f"{b['low']:.0%} to {b['high']:.0%}", f"{b['pairs']:,}", f"{b['certainty']:.1%}", f"{b['accuracy']:.1%}")
        for b in tuned["bins"]
    ]
    return TableFacts(
        title="Certainty of the reward model",
        note=f"Expected calibration error {tuned['ece']:.3f}, Brier score {tuned['brier']:.3f} (0 is best; 0.250 is a "
        "model that is never sure). Where right is below sure, the model promises too much.",
        columns=("Sure by", "Pairs", "Sure, on average", "Right"),
        rows=rows,
    )


def _labels(base: dict[str, Any], tuned: dict[str, Any]) -> list[TableFacts]:
    rows = [
        (one["label"], f"{one['rows']:,}", f"{one['precision']:.1%}", f"{one['recall']:.1%}", f"{one['f1']:.1%}")
        for one in sorted(tuned["labels"], key=lambda one: one["f1"])
    ]
    made = [
        TableFacts(
            title="Labels",
            note=f"Macro F1 {base['macro_f1']:.1%} with the base, {tuned['macro_f1']:.1%} tuned. Weakest first.",
            columns=("Label", "Rows", "Precision", "Recall", "F1"),
            rows=rows,
        )
    ]
    if tuned["confusions"]:
        wrong = tuned["confusions"][:MOST_CONFUSIONS]
        made.append(
            TableFacts(
                title="What is taken for what",
                note=f"The {len(wrong)} most frequent of {len(tuned['confusions'])} confusions.",
                columns=("True label", "Said", "Rows"),
                rows=[(true, said, f"{count:,}") for true, said, count in wrong],
            )
        )
    return made
