"""Classification: cross entropy between what the head says of a prompt's last token and the row's label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ...data.batch import evaluation_batches
from ...data.branches import Family
from ...data.classes import Classed
from ...data.rows import Mapped
from ...engine import precision
from ...engine.branches import Sequences, sequences
from ...engine.evaluate import EVALUATION_TOKENS
from ...engine.objective import Lines, Tally
from ...models.modes import evaluating
from ...models.pooling import scored
from ..base import Figures, Learned, Scene, Scores
from .config import ClassifySpec


@dataclass(frozen=True)
class ClassBatch:
    """N prompts and their labels' numbers."""

    sequences: Sequences
    label_N: Tensor

    def lines(self) -> Lines | None:
        """See `objective.Lined`."""
        return self.sequences.lines()


class Classify:
    """Cross entropy, each row weighed by its label's weight, as torch's with `weight` and `label_smoothing`."""

    figures: tuple[str, ...] = ClassifySpec.figures

    def __init__(self, spec: ClassifySpec):
        self.spec = spec
        self.tally = Tally()
        self._weights: NDArray[np.float32] = np.ones(len(self.labels), dtype=np.float32)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels by number."""
        return self.spec.head.labels if self.spec.head else ()

    def prepare(self, scene: Scene) -> Learned:
        """Weigh the rows by their labels."""
        self._weights = class_weights(self.spec, [row.label for row in scene.train])
        train, validation = (Mapped(rows, self._weighed) for rows in (scene.train, scene.validation))
        return Learned(train, validation)

    def _weighed(self, row: Classed) -> Classed:
        return row.weighing(float(self._weights[row.label]))

    def step_rows(self, model: Any, rows: Sequence[Classed], step: int | None) -> Sequence[Classed]:
        """Those of the data."""
        return rows

    def batch(self, rows: Sequence[Classed], pad_id: int, device: torch.device) -> ClassBatch:
        """Prompts padded on the right."""
        made = sequences([row.family() for row in rows], pad_id, device, share=False)
        return ClassBatch(made, torch.tensor([row.label for row in rows], device=device))

    def loss_sum(self, model: Any, batch: ClassBatch) -> Tensor:
        """Sum over rows of weight x cross entropy, in nats; `accuracy` is counted by weight as well."""
        logits_NK = scored(model, *batch.sequences.ends(model))
        weight_K = torch.from_numpy(self._weights).to(logits_NK.device)
        right_N = (logits_NK.argmax(-1) == batch.label_N).double()
        self.tally.add("accuracy", right_N * weight_K[batch.label_N])
        return F.cross_entropy(
            logits_NK, batch.label_N, weight_K, reduction="sum", label_smoothing=self.spec.label_smoothing
        )

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """None."""
        return None

    def held_out(self, model: Any, rows: Sequence[Classed], *, pad_id: int, number_type: str) -> Figures:
        """The numbers of the label said and of the true one, the probability of what is said, and the plain cross
        entropy in nats."""
        families, truth = [row.family() for row in rows], np.array([row.label for row in rows])
        logp_NK = log_probabilities(model, families, pad_id, number_type=number_type)
        said, every = logp_NK.argmax(-1), np.arange(len(rows))
        return {
            "said": said.astype(np.float64), "truth": truth.astype(np.float64),
            "probability": np.exp(logp_NK[every, said]), "loss": -logp_NK[every, truth],
        }  # fmt: skip

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """`accuracy`. A head that was never trained says the first label, which is the most frequent one unless the
        recipe orders them."""
        return {"accuracy": (_right(base), _right(tuned))}

    def said(self, figures: Figures) -> list[str]:
        """The label said of each row."""
        return [self.labels[int(number)] for number in figures["said"]]


def class_weights(spec: ClassifySpec, numbers: Sequence[int]) -> NDArray[np.float32]:
    """What a row of each label counts, float32 [labels]; `numbers` are those of the training rows."""
    labels = spec.head.labels if spec.head else ()
    if isinstance(spec.class_weights, dict):
        return np.array([spec.class_weights.get(label, 1.0) for label in labels], dtype=np.float32)
    if spec.class_weights == "equal":
        return np.ones(len(labels), dtype=np.float32)
    counts = np.bincount(numbers, minlength=len(labels))
    return np.divide(len(numbers), len(labels) * counts, out=np.ones(len(labels)), where=counts > 0).astype(np.float32)


def log_probabilities(model: Any, families: Sequence[Family], pad_id: int, *, number_type: str) -> NDArray[np.float64]:
    """Of every label [N, K] for N prompts, in nats, without gradients and without dropout."""
    found: dict[int, NDArray[np.float64]] = {}
    device = next(model.parameters()).device
    with torch.no_grad(), evaluating(model), precision.context(number_type, model):
        for places in evaluation_batches([family.sequences[0].length for family in families], EVALUATION_TOKENS):
            batch = sequences([families[i] for i in places], pad_id, device, share=False)
            logp_NK = scored(model, *batch.ends(model)).double().log_softmax(-1).cpu().numpy()
            found |= dict(zip(places, logp_NK, strict=True))
    return np.stack([found[i] for i in range(len(families))])


def _right(figures: Figures) -> Scores:
    right: Scores = (figures["said"] == figures["truth"]).astype(np.float64)
    return right
