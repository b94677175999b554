"""What a training's steps and validations cost, counted from the plan before any is computed: large products,
elementwise work and calls, each to be divided by what the machine reaches at the moment (`engine.rate`).

Operations are those of `pipelines.forecast`; how much dearer than a large product an operation of a low rank, of
attention or of a vocabulary's head is, how often a layer's numbers are read and written, and how many calls a layer
takes was measured, in steps of two bases under five adapters (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..data.batch import Step, evaluation_batches, within
from ..engine.evaluate import EVALUATION_TOKENS
from ..engine.gradients import at_once
from ..engine.rate import Rates
from ..methods.classify.config import ClassifySpec
from ..methods.reward.config import RewardSpec
from ..models.size import Size
from .recipe import RunSpec

_BACKWARD = 2.5
"""What attention's backward pass costs, in forward passes."""
_REHEARSED = 5.0
"""Passes of the head over the whole of a rehearsed text, forward and backward of the tuned model and forward of the
base, and as often are its probabilities read and written for each of the five."""


@dataclass(frozen=True)
class Factors:
    """Of one number type."""

    product: float
    """Seconds of a layer's products, in those of the products measured: other shapes, and what stands between them."""
    narrow: float
    """The same of products of a low rank."""
    attention: float
    head: float
    passes: float
    """How often what a layer makes of a token is read or written, forward and backward."""
    calls: float
    """Of a layer, forward and backward, in calls that compute next to nothing."""


FACTORS = {
    "bf16": Factors(1.6, 4.0, 1.8, 2.5, 64.0, 2460.0),
    "fp32": Factors(1.25, 2.0, 2.5, 1.2, 100.0, 2700.0),
}
_UPDATE_BYTES, _UPDATE_CALLS = 36.0, 8.0
"""Of an optimizer with clipping: bytes a trained weight, calls a trained matrix."""


@dataclass(frozen=True)
class Work:
    """What is asked of a machine."""

    products: float = 0.0
    """Operations of large products, or as many as take their time."""
    moved: float = 0.0
    """Bytes."""
    calls: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.products + other.products, self.moved + other.moved, self.calls + other.calls)

    def times(self, count: float) -> Work:
        """So often."""
        return Work(self.products * count, self.moved * count, self.calls * count)

    def seconds(self, rates: Rates) -> float:
        """At these rates."""
        return self.products / rates.products + self.moved / rates.moved + self.calls * rates.call


class Costs:
    """Of one recipe on one base; `number_type` is bf16 or fp32, `whole` says that micro-batches are not cut (a GPU)."""

    def __init__(self, spec: RunSpec, size: Size, number_type: str, *, whole: bool):
        adapter, self._spec, self._size = spec.adapter, spec, size
        self._factors, self._reach = FACTORS[number_type], adapter.reach(size)
        self._width = 2 if number_type == "bf16" else 4
        trained = adapter.trained(size)
        self._trained = trained
        self._own = min(trained, size.body) if adapter.trains_base else 0
        self._narrow = 0 if adapter.trains_base else trained
        self._head = 0 if isinstance(spec.method, RewardSpec | ClassifySpec) else size.head
        self._head_learns = adapter.trains_base and trained > size.body
        self._inner = max((max(out, into) for _, out, into in size.linear), default=size.hidden)
        # Weights that are held in float32 under bf16 are cast at every pass, and their gradients back.
        self._cast = 12.0 * (size.body + size.head) if adapter.trains_base and number_type == "bf16" else 0.0
        held = 4 if adapter.trains_base else self._width
        self._tokens = None if whole else at_once(size.hidden, max(1, round(size.layers * self._reach)), held)
        self._lines = not whole and number_type == "bf16"
        self._kept = self._reach < 1 and bool(spec.training.devices.trunk_cache)
        self._twice = spec.training.devices.activation_checkpointing is True

    def step(self, step: Step, lengths: Sequence[int], labelled: Sequence[int], *, again: bool) -> Work:
        """An optimizer step over rows of these lengths and labelled tokens; `again` where all were seen before."""
        made = Work(moved=_UPDATE_BYTES * self._trained, calls=_UPDATE_CALLS * (len(self._size.linear) * 2 + 2))
        for piece in self.pieces(step, lengths):
            made += self.piece(piece, lengths, labelled, again=again)
        return made

    def piece(self, rows: Sequence[int], lengths: Sequence[int], labelled: Sequence[int], *, again: bool) -> Work:
        """Forward and backward over rows that are computed together."""
        return self._passes([lengths[row] for row in rows], sum(labelled[row] for row in rows), True, again)

    def pieces(self, step: Step, lengths: Sequence[int]) -> list[list[int]]:
        """The rows of a step that are computed together."""
        return [piece for micro in step for piece in within(micro, lengths, self._tokens)]

    def validations(self, count: int, lengths: Sequence[int], labelled: Sequence[int]) -> Work:
        """So many passes over the validation rows."""
        later = self._validation(lengths, labelled, again=True) if count > 1 else Work()
        return self._validation(lengths, labelled, again=False) + later.times(count - 1)

    def _validation(self, lengths: Sequence[int], labelled: Sequence[int], *, again: bool) -> Work:
        made = Work()
        for batch in evaluation_batches(lengths, EVALUATION_TOKENS):
            made += self._passes([lengths[row] for row in batch], sum(labelled[row] for row in batch), False, again)
        return made

    def rehearsal(self, number: int) -> Work:
        """The part of step `number` (from 0) that keeps a base's own texts in mind; nothing without it."""
        spec = getattr(self._spec.method, "rehearsal", None)
        if not spec or number % spec.every:
            return Work()
        texts, tokens = [spec.length] * spec.batch, spec.batch * spec.length
        head = Work(2.0 * self._head * tokens * _REHEARSED, _REHEARSED * 4 * 4 * tokens * self._size.vocabulary)
        return self._passes(texts, 0, True, False) + self._passes(texts, 0, False, False) + head

    def _passes(self, lengths: Sequence[int], labelled: int, learns: bool, again: bool) -> Work:
        """Forward over rows that are computed together, and backward where it learns; what lies below all that is
        trained only where it is not `again`, if it is kept."""
        factors, size, longest = self._factors, self._size, max(lengths)
        tokens = sum(lengths) if self._lines else len(lengths) * longest
        back = self._reach if learns else 0.0
        forward = (self._reach if again and self._kept else 1.0) + (back if self._twice else 0.0)
        body = 2.0 * size.body * tokens * (forward + back) + (2.0 * self._own * tokens if learns else 0.0)
        narrow = 2.0 * self._narrow * tokens * (forward + 2 * back)
        squares = sum(one * one for one in lengths) if self._lines else len(lengths) * longest * longest
        seen = 2.0 * squares * size.hidden * size.layers * (forward + _BACKWARD * back)
        head = 2.0 * self._head * labelled * (1 + learns + 2 * (learns and self._head_learns))
        kept = tokens * size.layers * (size.hidden + 0.35 * self._inner) * self._width
        share = (forward + 2 * back) / 3
        return Work(
            factors.product * body + factors.narrow * narrow + factors.attention * seen + factors.head * head,
            factors.passes * kept * share + self._cast * share, factors.calls * size.layers * share,
        )  # fmt: skip
