"""Rows with what a teacher thinks of them, their batches, and the loss: a divergence from the teacher, mixed with cross
entropy on the data's labels.

Sum over labelled tokens t of w_t ((1 - label_weight) T^2 D_t - label_weight log q(x_t | x_<t)), in nats, D_t one of the
divergences in `losses` at temperature T. With T^2 a divergence's gradient stays as large whatever T is, so that
`label_weight` keeps its meaning (Hinton et al. 2015, arXiv 1503.02531, section 2). Tokens that the student wrote itself
are no labels: they have no second term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.batch import collate
from ...data.tokenize import Encoded
from ...engine.objective import Lines, Tally, TorchBatch
from ...models.head import Labelled, labelled
from . import losses
from .config import DistillSpec, DivergenceSpec, ForwardKlSpec, JsdSpec
from .losses import TopK


@dataclass(frozen=True)
class Likely:
    """A teacher's likeliest tokens at N places, [N, K]; see `losses.TopK`."""

    words: NDArray[np.int32]
    logp: NDArray[np.float32]
    rest: NDArray[np.float32]
    """[N]."""


UNKNOWN = Likely(np.zeros((0, 0), dtype=np.int32), np.zeros((0, 0), dtype=np.float32), np.zeros(0, dtype=np.float32))
"""Where the teacher is asked in every step."""


@dataclass(frozen=True)
class Taught:
    """A row, and what is known of the teacher's view on its labels."""

    row: Encoded
    likely: Likely = UNKNOWN
    own: bool = False
    """Whether the student wrote the labelled tokens."""

    @property
    def length(self) -> int:
        """Tokens."""
        return self.row.length

    @property
    def weight(self) -> float:
        """Sum of the loss weights."""
        return self.row.weight

    @property
    def labelled(self) -> int:
        """How many tokens carry loss."""
        return self.row.labelled


@dataclass(frozen=True)
class TaughtBatch:
    """B rows with N labelled tokens on the model's device."""

    rows: TorchBatch
    likely: TopK
    """At the labels, in the order in which they are read: row by row."""
    own_B: Tensor

    def lines(self) -> Lines:
        """See `objective.Lined`."""
        return self.rows.lines()


def batch_of(rows: Sequence[Taught], pad_id: int, device: torch.device) -> TaughtBatch:
    """Padded on the right."""
    own_B = torch.tensor([row.own for row in rows], device=device)
    known = [vars(row.likely).values() for row in rows]
    words, logp, rest = (torch.from_numpy(np.concatenate(parts)).to(device) for parts in zip(*known, strict=True))
    padded = TorchBatch.of(collate([row.row for row in rows], pad_id), device)
    return TaughtBatch(padded, TopK(words.long(), logp, rest), own_B)


def student_says(model: Any, batch: TaughtBatch) -> Labelled:
    """The student at the batch's labels."""
    rows = batch.rows
    return labelled(model, rows.input_ids_BL, rows.attention_mask_BL, rows.loss_weight_BL)


def divergence(student_NV: Tensor, teacher: Tensor | TopK, spec: DivergenceSpec) -> Tensor:
    """The spec's divergence of each token, [N], in nats, not multiplied by the squared temperature."""
    if isinstance(spec, JsdSpec):
        return losses.jsd(student_NV, teacher, spec.beta, spec.temperature)
    measure = losses.forward_kl if isinstance(spec, ForwardKlSpec) else losses.reverse_kl
    return measure(student_NV, teacher, spec.temperature)


def mixed_loss(
    said: Labelled, teacher: Tensor | TopK, own_B: Tensor, words: int, spec: DistillSpec, tally: Tally
) -> Tensor:  # fmt: skip
    """The sum of the head of this file over a batch. `words` is how many tokens student and teacher share.

    Counts each token's divergence and whether both find the same token likeliest, times its weight.
    """
    student_NV = said.said.logits()[:, :words].float()
    apart_N = divergence(student_NV, teacher, spec.divergence)
    best_N = teacher.ids_NK[:, 0] if isinstance(teacher, TopK) else teacher.argmax(-1)
    tally.add("divergence", apart_N * said.weight_N)
    tally.add("agreement", (student_NV.argmax(-1) == best_N) * said.weight_N)
    loss_N = (1 - spec.label_weight) * spec.divergence.temperature**2 * apart_N
    if spec.label_weight:
        loss_N = loss_N + spec.label_weight * said.losses() * ~own_B[said.owner_N]
    loss = (loss_N * said.weight_N).sum()
    return loss if said.router_loss is None else loss + said.router_loss * said.weight_N.sum()
