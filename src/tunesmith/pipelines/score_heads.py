"""What is told of models whose head is not the vocabulary's, beside what is told of all."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from ..data.classes import answer
from ..evaluation.answers import Answers
from ..evaluation.calibration import calibration
from ..evaluation.classes import classes
from ..evaluation.neighbour import copied_answers
from ..methods.base import Figures, Heading
from ..methods.classify.config import ClassifySpec
from ..methods.reward.config import RewardSpec
from .prepare import Prepared

UNMEASURED = "the model has no vocabulary head to score text by, so what it forgot cannot be asked"


def answers(method: Heading, figures: Figures) -> Answers:
    """What the model says of the test rows in words, and its loss on each: one decision a row."""
    losses = figures["loss"]
    return Answers(method.said(figures), [True] * len(losses), losses, np.ones(len(losses), dtype=np.int64))


def facts(prepared: Prepared, base: Figures, tuned: Figures) -> dict[str, Any]:
    """`calibration` of a reward model, `classes` of a classifier, base and tuned; nothing for other methods."""
    method = prepared.spec.method
    both = {"base": base, "tuned": tuned}
    if isinstance(method, RewardSpec):
        return {"calibration": {n: asdict(calibration(f["chosen"], f["rejected"])) for n, f in both.items()}}
    if isinstance(method, ClassifySpec) and method.head:
        names = method.head.labels
        return {"classes": {n: asdict(classes(f["truth"], f["said"], names)) for n, f in both.items()}}
    return {}


def baselines(prepared: Prepared) -> list[dict[str, Any]]:
    """Of a classifier: always saying the most frequent label of training, and that of the nearest training row."""
    if not isinstance(prepared.spec.method, ClassifySpec):
        return []
    test = [answer(example) for example in prepared.test.examples]
    [(most, _)] = Counter(map(answer, prepared.train.examples)).most_common(1)
    copied = [text.strip() for text in copied_answers(prepared.train.examples, prepared.test.examples)]
    guesses = {"most frequent label": [most] * len(test), "nearest training row": copied}
    return [
        {"name": name, "metric": "accuracy", "score": float(np.mean([a == b for a, b in zip(said, test, strict=True)]))}
        for name, said in guesses.items()
    ]
