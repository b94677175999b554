"""Several sequences that begin alike as one row: the beginning once, each ending as a branch of it.

A pair of answers to one prompt costs the prompt once instead of twice. Tokens see what stands before them in their own
branch and in the beginning, never another branch; places are counted along a branch, so the model cannot tell a branch
from a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tokenize import Encoded

PADDING, TRUNK = -1, 0
_GRAIN = 8
"""Rows are multiples of it long: shapes that recur spare a machine the making of programs for new ones."""


@dataclass(frozen=True)
class Family:
    """Sequences of which each begins with the same `shared` tokens, none of which carries loss."""

    sequences: tuple[Encoded, ...]
    shared: int


@dataclass(frozen=True)
class Branched:
    """B families, padded on the right to L, a multiple of 8, and the M tokens that carry loss in their S sequences."""

    input_ids: NDArray[np.int64]
    """[B, L]."""
    positions: NDArray[np.int64]
    """The place of each token in its own sequence [B, L]."""
    branch: NDArray[np.int64]
    """0 for the beginning, 1 and so on for the branches, -1 for padding [B, L]."""
    before: NDArray[np.int64]
    """For each token with loss the one before it in its sequence: index into the flattened [B, L], int64 [M]."""
    tokens: NDArray[np.int64]
    """The tokens with loss [M]."""
    owner: NDArray[np.int64]
    """The sequence that each is of, numbered through all families [M]."""
    last: NDArray[np.int64]
    """The last token of each sequence: index into the flattened [B, L], int64 [S]."""
    count: int
    """S."""


def branched(families: Sequence[Family], pad_id: int) -> Branched:
    """Lay families out as rows."""
    rows = [_row(family) for family in families]
    width = max(len(ids) for ids, _, _ in rows)
    width += -width % _GRAIN
    ids, positions, branch = (np.full((len(rows), width), fill, dtype=np.int64) for fill in (pad_id, 0, PADDING))
    before, tokens, owner = [], [], []
    last: list[int] = []
    number = 0
    for place, (family, (row_ids, row_positions, row_branch)) in enumerate(zip(families, rows, strict=True)):
        length = len(row_ids)
        ids[place, :length], positions[place, :length], branch[place, :length] = row_ids, row_positions, row_branch
        start = family.shared
        for one in family.sequences:
            labelled = np.flatnonzero(one.loss_weight)
            # A sequence's token t stands at start + t - shared; the one before its first own is the trunk's last.
            previous = np.where(labelled == family.shared, family.shared - 1, start + labelled - family.shared - 1)
            before.append(place * width + previous)
            tokens.append(one.input_ids[labelled])
            owner.append(np.full(len(labelled), number))
            number, start = number + 1, start + one.length - family.shared
            last.append(place * width + (start if one.length > family.shared else family.shared) - 1)
    all_before, all_tokens, all_owners = (np.concatenate(parts).astype(np.int64) for parts in (before, tokens, owner))
    ends = np.array(last, dtype=np.int64)
    return Branched(ids, positions, branch, all_before, all_tokens, all_owners, ends, number)


def _row(family: Family) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """(tokens, places, branches) of a family's row."""
    trunk = family.sequences[0].input_ids[: family.shared]
    endings = [one.input_ids[family.shared :] for one in family.sequences]
    places = [np.arange(family.shared), *(family.shared + np.arange(len(ending)) for ending in endings)]
    branch = np.repeat(np.arange(len(endings) + 1), [family.shared, *map(len, endings)])
    return np.concatenate([trunk, *endings]), np.concatenate(places), branch
