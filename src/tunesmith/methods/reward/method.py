"""A reward model: pairs of answers to rewards, and those to the Bradley-Terry loss in `losses`.

An answer's reward is what the head says of its sequence's last token. A prompt is computed once for both of its answers
where the base allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.events import Note
from ...data.answers import Pair
from ...data.batch import evaluation_batches
from ...data.branches import Family
from ...engine import precision
from ...engine.branches import Sequences, can_share_ends, sequences
from ...engine.evaluate import EVALUATION_TOKENS
from ...engine.objective import Lines, Tally
from ...models.modes import evaluating
from ...models.pooling import scored
from ..base import Figures, Learned, Scene, Scores
from .config import RewardSpec
from .losses import bradley_terry


@dataclass(frozen=True)
class RewardBatch:
    """N pairs: 2 N sequences, of each pair the chosen one first."""

    sequences: Sequences
    margin_N: Tensor

    def lines(self) -> Lines | None:
        """See `objective.Lined`."""
        return self.sequences.lines()


class Reward:
    """The mean loss over pairs, whatever their lengths."""

    figures: tuple[str, ...] = RewardSpec.figures

    def __init__(self, spec: RewardSpec):
        self.spec = spec
        self.tally = Tally()
        self._share = False

    def prepare(self, scene: Scene) -> Learned:
        """See whether prompts can be computed once for both answers."""
        if len(scene.train):
            self._share = can_share_ends(scene.model, scene.train[0].family(), scene.pad_id)
            if not self._share:
                scene.sink(Note("this base takes each answer with its own prompt: prompts are computed twice"))
        return Learned(scene.train, scene.validation)

    def step_rows(self, model: Any, rows: Sequence[Pair], step: int | None) -> Sequence[Pair]:
        """Those of the data."""
        return rows

    def batch(self, rows: Sequence[Pair], pad_id: int, device: torch.device) -> RewardBatch:
        """Both answers of each pair, behind one prompt where the base allows it."""
        made = sequences([row.family() for row in rows], pad_id, device, share=self._share)
        return RewardBatch(made, torch.tensor([row.margin for row in rows], dtype=torch.float32, device=device))

    def loss_sum(self, model: Any, batch: RewardBatch) -> Tensor:
        """Sum of the pairs' losses."""
        reward_S = _rewards(model, batch.sequences)
        chosen_N, rejected_N = reward_S[::2], reward_S[1::2]
        difference_N = chosen_N - rejected_N
        self.tally.add("accuracy", (difference_N > 0).double() + 0.5 * (difference_N == 0).double())
        self.tally.add("margin", difference_N)
        return bradley_terry(chosen_N, rejected_N, batch.margin_N, self.spec.centring).sum()

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """None: what keeps rewards small is in the loss."""
        return None

    def held_out(self, model: Any, rows: Sequence[Pair], *, pad_id: int, number_type: str) -> Figures:
        """Rewards of both answers, and the pair's loss in nats, without margin and centring."""
        families = [row.family() for row in rows]
        share = bool(families) and can_share_ends(model, families[0], pad_id)
        reward_S = rewards(model, families, pad_id, share=share, number_type=number_type)
        chosen, rejected = reward_S[::2], reward_S[1::2]
        return {"chosen": chosen, "rejected": rejected, "loss": np.logaddexp(0, rejected - chosen)}

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """`preference_accuracy`: whether the chosen answer has the higher reward; a tie counts a half. A head that was
        never trained has only ties."""
        return {"preference_accuracy": (_right(base), _right(tuned))}

    def said(self, figures: Figures) -> list[str]:
        """The rewards of each pair in words."""
        pairs = zip(figures["chosen"], figures["rejected"], strict=True)
        return [f"chosen {chosen:+.3f}, rejected {rejected:+.3f}" for chosen, rejected in pairs]


def rewards(model: Any, families: Sequence[Family], pad_id: int, *, share: bool, number_type: str) -> Scores:
    """The reward of each sequence of all families [S], in order, without gradients and without dropout."""
    first = np.concatenate([[0], np.cumsum([len(family.sequences) for family in families])]).astype(np.int64)
    found = np.zeros(first[-1])
    lengths = [sum(one.length - family.shared for one in family.sequences) + family.shared for family in families]
    device = next(model.parameters()).device
    with torch.no_grad(), evaluating(model), precision.context(number_type, model):
        for places in evaluation_batches(lengths, EVALUATION_TOKENS):
            batch = sequences([families[i] for i in places], pad_id, device, share=share)
            at = np.concatenate([np.arange(first[i], first[i + 1]) for i in places])
            found[at] = _rewards(model, batch).double().cpu().numpy()
    return found


def _rewards(model: Any, asked: Sequences) -> Tensor:
    return scored(model, *asked.ends(model)).squeeze(-1)


def _right(figures: Figures) -> Scores:
    difference = figures["chosen"] - figures["rejected"]
    right: Scores = np.where(difference == 0, 0.5, (difference > 0).astype(np.float64))
    return right
