"""How sure a model is of its answers: the probability of each as a whole and, where answers are labels, of every label.

Labels are those of the training rows. A label's probability is that of its tokens and of the end of the turn behind
the prompt, over all labels together: what the model would give if it had to choose one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.later import later
from ..core.messages import Example, Message
from ..data.template import TemplateError, learning_last
from ..data.tokenize import encode
from ..engine.evaluate import row_losses
from ..evaluation.calibration import of_answers, of_labels
from ..evaluation.metrics.label_f1 import Accuracy, LabelF1
from .bench import Bench
from .prepare import Prepared

special = later("scipy.special")
Array = NDArray[np.float64]
MOST_LABELS, MOST_SCORED = 100, 4000
"""Labels, and pairs of row and label, that are asked for: the first rows where there are more."""


@dataclass(frozen=True)
class Certainty:
    """`answers` [test rows]: probability of what the model said. `labels` [rows asked, labels], of `names`; None where
    answers are no labels."""

    answers: Array
    labels: Array | None = None
    names: tuple[str, ...] = ()


def certainty(bench: Bench, prepared: Prepared, texts: Sequence[str]) -> Certainty:
    """Of the bench's model as it stands, which has said `texts` to the test rows."""
    rows = prepared.test.conversations
    said = np.exp(-_nats(bench, [_answered(row, text) for row, text in zip(rows, texts, strict=True)]))
    names = _names(prepared)
    if not names:
        return Certainty(said)
    asked = rows[: max(1, MOST_SCORED // len(names))]
    nats = _nats(bench, [_answered(row, name) for row in asked for name in names])
    return Certainty(said, special.softmax(-nats.reshape(len(asked), len(names)), axis=1), names)


def _answered(row: Example, text: str) -> Example:
    """The row with this answer, which alone is learned."""
    said = Message(role="assistant", content=text)
    return learning_last(row.model_copy(update={"messages": (*row.prompt(), said)}))


def _nats(bench: Bench, rows: Sequence[Example]) -> Array:
    """Minus the log-probability of each row's answer; infinite where the template cannot show it."""
    made = encode(bench.tokenizer, rows)
    limit = bench.context
    shown = [
        (place, one)
        for place, one in enumerate(made)
        if not isinstance(one, TemplateError) and (limit is None or one.length <= limit)
    ]
    found = np.full(len(rows), np.inf)
    sums, _ = row_losses(
        bench.model, [one for _, one in shown], pad_id=bench.pad_id, number_type=bench.number_type
    )  # fmt: skip
    found[[place for place, _ in shown]] = sums
    return found


def _metric(prepared: Prepared) -> Accuracy | LabelF1 | None:
    return next((one for one in prepared.metrics if isinstance(one, Accuracy | LabelF1)), None)


def _names(prepared: Prepared) -> tuple[str, ...]:
    """The labels of the training rows; none where no metric takes answers for labels, or they are too many."""
    metric = _metric(prepared)
    if metric is None:
        return ()
    found = sorted({metric.label(row.answer()) for row in prepared.train.conversations})
    return tuple(found) if len(found) <= MOST_LABELS else ()


def facts(prepared: Prepared, base: Certainty, tuned: Certainty, right: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """`certainty` of evaluation.json; `right` tells of both models which answers are right, bool [rows]."""
    both = {"base": base, "tuned": tuned}
    found: dict[str, Any] = {
        "answers": {name: asdict(of_answers(one.answers, right[name])) for name, one in both.items()}
    }
    metric = _metric(prepared)
    if base.labels is not None and tuned.labels is not None and metric:
        rows = prepared.test.conversations[: len(tuned.labels)]
        number = {name: place for place, name in enumerate(tuned.names)}
        truth = np.array([number.get(metric.label(row.answer()), -1) for row in rows])
        found["labels"] = {
            name: asdict(of_labels(one.labels, truth)) for name, one in both.items() if one.labels is not None
        }
    return {"certainty": found}
