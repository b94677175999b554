"""Which sets of rows are held out. Rows that must stay together are one unit; nothing here knows what they say.

Every function gives the numbers of the units that are held out, at least one and never all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def numbered(keys: NDArray[np.uint64] | Numbers) -> Numbers:
    """Equal keys to equal numbers from 0, in the order in which they are first met [rows]."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def at_random(units: Numbers, wanted: int, rng: np.random.Generator) -> list[int]:
    """Units in a random order while they fit into `wanted` rows; the smallest where none fits.

    One that does not fit is passed over, so that a unit of very many rows cannot empty the training set.
    """
    sizes = np.bincount(units).tolist()
    drawn = rng.permutation(len(sizes))[:-1].tolist()
    held, rows = [], 0
    for unit in drawn:
        if rows + sizes[unit] <= wanted:
            held.append(unit)
            rows += sizes[unit]
    return held or [min(drawn, key=sizes.__getitem__)]


def quotas(counts: Numbers, share: float, wanted: int, rng: np.random.Generator) -> Numbers:
    """Rows to hold out of each label [labels]: its share, rounded so that they sum to `wanted` (largest remainder).

    The rows that rounding leaves over go first to labels that keep a row for training, then by remainder, then by lot.
    """
    exact = share * counts
    made: Numbers = np.floor(exact).astype(np.int64)
    lot = rng.permutation(len(counts))
    order = np.lexsort((lot, made - exact, made + 1 >= counts))
    made[order[: wanted - int(made.sum())]] += 1
    return made


def stratified(units: Numbers, labels: Numbers, room: Numbers, rng: np.random.Generator) -> list[int]:
    """Units whose rows fill the `room` [labels] of each label as nearly as they can.

    In a random order those that fit; then, the smallest first, those that bring the labels nearer to their room though
    one is exceeded. Where every unit is one row, all rooms are filled exactly.
    """
    sizes = np.bincount(units)
    border, label, count = _by_label(units, labels, len(room))
    free = room.tolist()
    order = rng.permutation(len(sizes))
    held: list[int] = []
    for exceeding in (False, True):
        left: list[int] = []
        for unit in order.tolist():
            mine = range(border[unit], border[unit + 1])
            if exceeding:
                fits = sum(count[i] * (count[i] - 2 * free[label[i]]) for i in mine) < 0  # the squared distance falls
            else:
                fits = all(count[i] <= free[label[i]] for i in mine)
            if not fits or len(held) + 1 == len(sizes):
                left.append(unit)
                continue
            held.append(unit)
            for i in mine:
                free[label[i]] -= count[i]
        order = np.array(left, dtype=np.int64)
        order = order[np.argsort(sizes[order], kind="stable")]
    return held or [int(np.argmin(sizes))]


def _by_label(units: Numbers, labels: Numbers, names: int) -> tuple[list[int], list[int], list[int]]:
    """(borders, labels, rows of each): those of unit u stand from borders[u] to borders[u + 1]."""
    pairs, counts = np.unique(units * names + labels, return_counts=True)
    border = np.searchsorted(pairs // names, np.arange(int(units.max()) + 2))
    return border.tolist(), (pairs % names).tolist(), counts.tolist()


def newest(units: Numbers, times: NDArray[np.float64], wanted: int) -> list[int]:
    """The units with the newest rows, so many that the rows are nearest to `wanted`.

    A unit is as new as its newest row; of equal times the row that stands later is the newer one. No row outside is
    therefore newer than the newest row of any unit that is held out.
    """
    order = np.lexsort((np.arange(len(units)), times))
    place = np.empty(len(units), dtype=np.int64)
    place[order] = np.arange(len(units))
    newest_place = np.zeros(int(units.max()) + 1, dtype=np.int64)
    np.maximum.at(newest_place, units, place)
    drawn = np.argsort(-newest_place)
    rows = np.cumsum(np.bincount(units)[drawn])[:-1]
    return [int(unit) for unit in drawn[: int(np.argmin(np.abs(rows - wanted))) + 1]]
