"""A model's score on held-out rows as a JSON value and back, number for number: answers and losses, no probes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ..evaluation.answers import Answers
from ..evaluation.forgetting import GeneralLoss
from .score import Score


def as_json(score: Score) -> dict[str, Any]:
    """What `read` takes. Probes and certainty are not kept: trials have none."""
    said = score.answers
    return {
        "texts": said.texts, "finished": said.finished, "loss_sums": said.loss_sums.tolist(),
        "label_counts": said.label_counts.tolist(), "drawn": [list(row) for row in said.drawn],
        "general": asdict(score.general) if score.general else None,
        "held_out": {name: figures.tolist() for name, figures in score.held_out.items()},
    }  # fmt: skip


def read(found: dict[str, Any]) -> Score:
    """The score again."""
    answers = Answers(
        found["texts"], found["finished"], np.array(found["loss_sums"], dtype=np.float64),
        np.array(found["label_counts"], dtype=np.int64), found["drawn"],
    )  # fmt: skip
    general = GeneralLoss(**found["general"]) if found["general"] else None
    return Score(answers, general, {name: np.array(figures) for name, figures in found["held_out"].items()})
