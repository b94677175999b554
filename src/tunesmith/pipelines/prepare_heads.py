"""Rows for models whose head is not the vocabulary's: labels to classes, margins to pairs; and what such a model is
measured by, for it writes no answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import ContentError, nearest
from ..core.messages import Example, Preference
from ..data.answers import Margined, Pair
from ..data.audit import Audit, Finding
from ..data.classes import Classed, ClassedRows, answer, by_frequency
from ..data.labels import meant_labels
from ..data.tokens import Sizes
from ..evaluation.config import EvaluationSpec, GateSpec
from ..methods.classify.config import ClassifySpec
from ..methods.reward.config import RewardSpec

_SHOWN = 5
_OFTEN = 100
"""How frequent a known label counts as, beside an unknown one that it may be meant by."""


def measured(spec: EvaluationSpec, measures: Sequence[str], method: str) -> tuple[str, ...]:
    """Names of all that is compared beside losses. ContentError for metrics of answers."""
    if spec.metrics == "auto":
        return tuple(measures)
    for name in spec.metric_names():
        if name not in measures:
            raise ContentError(
                f"evaluation.metrics: '{name}' scores answers, and a model of method '{method}' writes none",
                where="evaluation.metrics",
                mend=f"name {', '.join(measures)}, or leave it out; loss and perplexity always count",
            )
    return spec.metric_names()


def gate(spec: GateSpec) -> GateSpec:
    """The gate without its condition on forgetting: text cannot be asked of a model without a vocabulary head."""
    return spec.model_copy(update={"max_forgetting": None})


def with_labels(spec: ClassifySpec, train: Sequence[Example], audit: Audit) -> ClassifySpec:
    """The method with its labels, which "auto" takes from the training rows. Blocking findings where there are none to
    tell apart, or too many to be labels; an empty training set is told of elsewhere."""
    if spec.labels != "auto":
        return spec
    labels = by_frequency(map(answer, train))
    if len(labels) > spec.most_labels:
        audit.add(
            Finding(
                "too_many_labels", "block",
                f"the answers are {len(labels)} different texts, more than method.most_labels ({spec.most_labels})",
                "give rows whose answers are labels, or use method: {type: sft}, or raise method.most_labels",
            )
        )  # fmt: skip
    if len(labels) < 2:
        if len(train):
            audit.add(
                Finding("one_label", "block", f"every answer is '{labels[0]}': there is nothing to tell apart",
                        "give rows of at least two labels")
            )  # fmt: skip
        labels = (*labels, "other", "none")[:2]
    if isinstance(spec.class_weights, dict):
        for name in spec.class_weights:
            if name not in labels:
                raise ContentError(
                    f"method.class_weights names '{name}', which no training row has",
                    where="method.class_weights", mend=nearest(name, labels),
                )  # fmt: skip
    return spec.model_copy(update={"labels": labels})


def classes(
    examples: Sequence[Example], encoded: Sequence[Any], labels: Sequence[str], role: str, audit: Audit
) -> tuple[Sequence[Classed], Sizes]:
    """The rows as prompts and labels. A blocking finding for answers that are none of the labels: they could only be
    wrong."""
    made = ClassedRows(examples, encoded, labels)
    lengths = np.fromiter((row.length for row in made), dtype=np.int64, count=len(made))
    unknown = [place for place, row in enumerate(made) if row.label < 0]
    if unknown:
        names = by_frequency(answer(examples[place]) for place in unknown)
        told = ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        of = "method.labels does not name" if role == "train" else "no training row has"
        meant = meant_labels(Counter(dict.fromkeys(names, 1) | dict.fromkeys(labels, _OFTEN)))
        hint = f"; '{next(iter(meant))}' may be '{next(iter(meant.values()))}'" if meant else ""
        audit.add(
            Finding(
                "unknown_label", "block", f"{role} rows have labels that {of}: {told}{hint}",
                "correct them, give training rows of them, or take these rows out",
                tuple(examples[place].origin for place in unknown),
            )
        )  # fmt: skip
    ones = np.ones(len(made), dtype=np.int64)
    return made, Sizes(lengths, ones, np.zeros(len(made), dtype=bool))


def with_margins(spec: RewardSpec, rows: Sequence[Preference], pairs: Sequence[Pair]) -> Sequence[Pair]:
    """The pairs with the margins that the rows hold. ContentError, naming the row, where one does not."""
    if spec.margin is None:
        return pairs
    keys = (spec.margin,) if isinstance(spec.margin, str) else spec.margin
    return Margined(pairs, [_margin(row, keys) for row in rows])


def _margin(row: Preference, keys: tuple[str, ...]) -> float:
    values = [_number(row, key) for key in keys]
    margin = values[0] if len(values) == 1 else values[0] - values[1]
    if margin < 0:
        raise ContentError(
            f"the margin is {margin:g}: it says that the rejected answer is the better one", where=row.origin,
            mend="swap the two answers, or take the row out",
        )  # fmt: skip
    return margin


def _number(row: Preference, key: str) -> float:
    value = row.metadata.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        held = "is not there" if key not in row.metadata else f"holds {value!r}"
        raise ContentError(
            f"method.margin asks for a number under '{key}', which {held}", where=row.origin,
            mend=f"give every row one, or name another key: {nearest(key, row.metadata)}"
            if row.metadata else "give every row one, or leave method.margin out",
        )  # fmt: skip
    return float(value)
