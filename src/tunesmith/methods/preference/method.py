"""Learning from preferences: answers to log-probabilities, and those to one of the losses in `losses`.

The reference is the base: its log-probabilities are computed once, before the first step, and kept in the run's folder.
A prompt is computed once for both of its answers where the base allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.events import Note
from ...data.answers import Judged, Pair
from ...data.branches import Family
from ...engine.branches import Sequences, can_share, sequences
from ...engine.objective import Lines, Tally
from ..base import Figures, Learned, Scene, Scores
from . import losses
from .answered import Answered, answered, log_probabilities
from .config import KtoSpec, PreferenceSpec


@dataclass(frozen=True)
class PreferenceBatch:
    """N items of one or two answers each: S answers, an item's one behind the other, of a pair the chosen first."""

    sequences: Sequences
    reference_S: Tensor
    good_S: Tensor
    item_S: Tensor
    """The item that each answer is of."""
    share_S: Tensor
    """What each answer counts in its item: 1, or a half of a pair."""
    baseline: Tensor

    def lines(self) -> Lines | None:
        """See `objective.Lined`."""
        return self.sequences.lines()


class Preference:
    """The mean loss over pairs (over answers, for KTO), whatever their lengths."""

    figures: tuple[str, ...] = PreferenceSpec.figures

    def __init__(self, spec: PreferenceSpec):
        self.spec = spec
        self.tally = Tally()
        self._share = False
        self._pad_id = 0

    def prepare(self, scene: Scene) -> Learned:
        """The base's log-probabilities of every answer, where the loss asks for them."""
        self._pad_id = scene.pad_id
        self._share = self._can_share(scene)
        return answered(scene, self.spec, share=self._share)

    def _can_share(self, scene: Scene) -> bool:
        """Whether prompts are computed once for both answers."""
        first = next((row for row in scene.train if isinstance(row, Pair)), None)
        if first is None:
            return False
        shared = can_share(scene.model, first.family(), scene.pad_id)
        if not shared:
            scene.sink(Note("this base takes each answer with its own prompt: prompts are computed twice"))
        return shared

    def step_rows(self, model: Any, rows: Sequence[Answered], step: int | None) -> Sequence[Answered]:
        """The rows as they are; under KTO with the distance from the reference, estimated on all rows of the step."""
        if not isinstance(self.spec.loss, KtoSpec):
            return rows
        elsewhere = [row.mismatch for row in rows if row.mismatch]
        found, _ = log_probabilities(model, [Family((row,), 0) for row in elsewhere], self._pad_id, share=False)
        known = np.array([row.mismatch_reference for row in rows if row.mismatch])
        return [row.measured_from(float((found - known).mean())) for row in rows]

    def batch(self, rows: Sequence[Answered], pad_id: int, device: torch.device) -> PreferenceBatch:
        """Answers of the rows, pairs behind one prompt where the base allows it."""
        counts = [len(row.good) for row in rows]

        def tensor(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return PreferenceBatch(
            sequences([row.family for row in rows], pad_id, device, share=self._share),
            tensor([one for row in rows for one in row.reference or [0.0] * len(row.good)]),
            tensor([one for row in rows for one in row.good], torch.bool),
            torch.arange(len(rows), device=device).repeat_interleave(torch.tensor(counts, device=device)),
            tensor([1 / count for count in counts for _ in range(count)]),
            tensor([rows[0].baseline]).squeeze(0),
        )  # fmt: skip

    def loss_sum(self, model: Any, batch: PreferenceBatch) -> Tensor:
        """Sum of the items' losses."""
        logp_S, tokens_S = batch.sequences.logprobs(model)
        if isinstance(self.spec.loss, KtoSpec):
            return self._judged(self.spec.loss, logp_S, batch)
        pairs = _pairs(logp_S, tokens_S, batch.reference_S if self.spec.needs_reference else None)
        chosen_N, rejected_N = losses.rewards(pairs, self.spec.loss)
        self.tally.add("accuracy", _right(chosen_N, rejected_N))
        self.tally.add("margin", chosen_N - rejected_N)
        return losses.loss(pairs, self.spec.loss).sum()

    def _judged(self, spec: KtoSpec, logp_S: Tensor, batch: PreferenceBatch) -> Tensor:
        judged = losses.Judged(logp_S, batch.reference_S, batch.good_S, batch.baseline)
        loss_S = losses.kto(judged, spec)
        reward_S = spec.beta * (logp_S - batch.reference_S - batch.baseline.clamp(min=0)).detach()
        signed_S = torch.where(batch.good_S, reward_S, -reward_S)
        self.tally.add("accuracy", _right(signed_S, torch.zeros_like(signed_S)) * batch.share_S)
        self.tally.add("margin", signed_S * batch.share_S)
        return (loss_S * batch.share_S).sum()

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """None: what keeps the model near is in the loss."""
        return None

    def held_out(self, model: Any, rows: Sequence[Pair | Judged], *, pad_id: int, number_type: str) -> Figures:
        """Log-probabilities and lengths of the answers; of judged ones whether they are good."""
        families = [row.family() for row in rows]
        pairs = bool(rows) and isinstance(rows[0], Pair)
        share = pairs and can_share(model, families[0], pad_id)
        sums, tokens = log_probabilities(model, families, pad_id, share=share, number_type=number_type)
        if pairs:
            return {"chosen": sums[::2], "rejected": sums[1::2], "chosen_tokens": tokens[::2],
                    "rejected_tokens": tokens[1::2]}  # fmt: skip
        return {"answer": sums, "good": np.array([float(row.good) for row in rows if isinstance(row, Judged)])}

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """`preference_accuracy`: whether the loss's own reward puts the chosen answer first; a tie counts a half.

        Where the reward is measured from the base, the base itself has only ties. Of a judged answer: whether the tuned
        model made it likelier than the base does where it is good, and less likely where it is bad.
        """
        return {"preference_accuracy": (self._accuracy(base, base), self._accuracy(base, tuned))}

    def _accuracy(self, base: Figures, mine: Figures) -> Scores:
        if "answer" in mine:
            moved = (mine["answer"] - base["answer"]) * (2 * mine["good"] - 1)
            return _right(torch.from_numpy(moved), torch.zeros(len(moved), dtype=torch.float64)).numpy()
        reference = {f"reference_{name}_N": torch.from_numpy(base[name]) for name in ("chosen", "rejected")}
        pairs = losses.Pairs(**{f"{name}_N": torch.from_numpy(values) for name, values in mine.items()}, **reference)
        return _right(*losses.rewards(pairs, self.spec.loss)).double().numpy()


def _pairs(logp_S: Tensor, tokens_S: Tensor, reference_S: Tensor | None) -> losses.Pairs:
    reference = (None, None) if reference_S is None else (reference_S[::2], reference_S[1::2])
    return losses.Pairs(logp_S[::2], logp_S[1::2], tokens_S[::2], tokens_S[1::2], *reference)


def _right(better_N: Tensor, worse_N: Tensor) -> Tensor:
    """1 where the first is larger, 0 where the second is, a half for a tie."""
    return (better_N > worse_N).double() + 0.5 * (better_N == worse_N).double()
