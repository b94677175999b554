"""The plan of a training, and padded batches.

An optimizer step is a set of rows; a micro-batch is a part of a step that is computed at once. Rows are shuffled,
then sorted by length inside windows of some steps, so that a batch holds rows of like length (little padding)
while each step remains a near-random draw. With `batch_size` the rows of a step depend only on
batch_size x gradient_accumulation: 1 x 8 and 8 x 1 are the same steps.

In an epoch of a curriculum, rows go from easy to hard: the windows are its stages. Within a window all is as usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .tokenize import Encoded

WINDOW_STEPS = 16
"""Steps whose rows are sorted by length together."""
STAGES = 8
"""The least number of windows in an epoch that is ordered, where it has as many steps."""

Step = list[list[int]]
"""Micro-batches of row indices."""


class Item(Protocol):
    """A row as a method learns it: tokens, a pair of answers, whatever the method's batches are made of."""

    @property
    def length(self) -> int:
        """Tokens that are computed for it."""

    @property
    def weight(self) -> float:
        """What it counts in the mean over an optimizer step."""

    @property
    def labelled(self) -> int:
        """How many tokens carry loss."""


@dataclass(frozen=True)
class Budget:
    """What a micro-batch may hold: `rows`, or padded `tokens` (rows x longest); one of them is None."""

    rows: int | None
    tokens: int | None
    accumulation: int


@dataclass(frozen=True)
class Batch:
    """Padded rows. All arrays are [rows, length]; `loss_weight` is 0 on padding and prompts."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    loss_weight: NDArray[np.float32]


def collate(encoded: Sequence[Encoded], pad_id: int) -> Batch:
    """Pad rows on the right to the longest."""
    shape = (len(encoded), max(len(e.input_ids) for e in encoded))
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    weight = np.zeros(shape, dtype=np.float32)
    for row, one in enumerate(encoded):
        n = len(one.input_ids)
        ids[row, :n], mask[row, :n], weight[row, :n] = one.input_ids, 1, one.loss_weight
    return Batch(ids, mask, weight)


def plan_epoch(
    lengths: Sequence[int], repeats: Sequence[int], budget: Budget, seed: int, epoch: int,
    difficulty: NDArray[np.float64] | None = None,
) -> list[Step]:  # fmt: skip
    """The optimizer steps of one epoch; a function of its arguments alone, so a resumed run finds its place.

    With a `difficulty` [rows], no row of a window is easier (smaller) than one of a window before.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = np.repeat(np.arange(len(lengths)), np.asarray(repeats, dtype=np.int64))
    order = rng.permutation(rows)
    size = np.asarray(lengths, dtype=np.int64)
    per_step = _rows_per_step(size, budget)
    window_rows = per_step * WINDOW_STEPS
    if difficulty is not None:
        order = order[np.argsort(difficulty[order], kind="stable")]
        window_rows = per_step * min(WINDOW_STEPS, max(1, len(order) // per_step // STAGES))
    windows: list[list[Step]] = []
    for start in range(0, len(order), window_rows):
        window = order[start : start + window_rows]
        window = window[np.argsort(size[window], kind="stable")]
        windows.append(_by_rows(window, budget) if budget.rows else _by_tokens(window, size, budget))
    if difficulty is None:
        windows = [[step for window in windows for step in window]]
    return [window[i] for window in windows for i in rng.permutation(len(window))]


def evaluation_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """All rows once, longest together, each batch within `tokens` padded tokens (or one row)."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    return list(_fill(order.tolist(), lengths, tokens))


def _rows_per_step(size: NDArray[np.int64], budget: Budget) -> int:
    if budget.rows:
        return budget.rows * budget.accumulation
    return max(1, int((budget.tokens or 1) // max(1.0, float(size.mean())))) * budget.accumulation


def _by_rows(window: NDArray[np.int64], budget: Budget) -> list[Step]:
    rows = budget.rows or 1
    per_step = rows * budget.accumulation
    steps = [window[i : i + per_step].tolist() for i in range(0, len(window), per_step)]
    return [[step[i : i + rows] for i in range(0, len(step), rows)] for step in steps]


def _by_tokens(window: NDArray[np.int64], size: NDArray[np.int64], budget: Budget) -> list[Step]:
    micro = list(_fill(window.tolist(), size.tolist(), budget.tokens or 1))
    return [micro[i : i + budget.accumulation] for i in range(0, len(micro), budget.accumulation)]


def within(rows: Sequence[int], size: Sequence[int], tokens: int | None) -> list[list[int]]:
    """Consecutive rows in batches of at most `tokens` padded tokens, or of one row; all in one where None."""
    return [list(rows)] if tokens is None else list(_fill(rows, size, tokens))


def _fill(order: Sequence[int], size: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Consecutive rows while rows x longest stays within `tokens`; a longer row goes alone."""
    held: list[int] = []
    longest = 0
    for row in order:
        longest = max(longest, int(size[row]))
        if held and longest * (len(held) + 1) > tokens:
            yield held
            held, longest = [], int(size[row])
        held.append(row)
    if held:
        yield held
