"""What makes two rows the same, as numbers: hashes of their prompts and answers.

64 bits each. Among a million rows two different texts share a hash with a chance of three in a hundred million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """Hashes of N rows."""

    prompts: Hashes
    """uint64 [N], of the prompts with their tool calls, up to case and white space (`Example.prompt_key`)."""
    answers: Hashes
    """uint64 [N], of the last answers up to white space."""

    @staticmethod
    def of(examples: Sequence[Example]) -> Keys:
        """One pass over the rows."""
        hashes = np.empty((len(examples), 2), dtype=np.uint64)
        for index, example in enumerate(examples):
            hashes[index] = _hash(example.prompt_key()), _hash(" ".join(example.answer().split()))
        return Keys(hashes[:, 0].copy(), hashes[:, 1].copy())

    def __len__(self) -> int:
        return len(self.prompts)

    def pick(self, places: Places) -> Keys:
        """Those of some rows."""
        return Keys(self.prompts[places], self.answers[places])

    def groups(self) -> Places:
        """A number for each row, int64 [N], equal for equal prompts, from 0 in order of first appearance."""
        _, first, inverse = np.unique(self.prompts, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        return rank[inverse]

    def repeated(self) -> NDArray[np.bool_]:
        """bool [N]: whether an earlier row has the same prompt and the same answer."""
        both = np.stack((self.prompts, self.answers), axis=1)
        _, first = np.unique(both, axis=0, return_index=True)
        again = np.ones(len(both), dtype=bool)
        again[first] = False
        return again

    def contradicting(self) -> NDArray[np.bool_]:
        """bool [N]: whether an earlier row has the same prompt, and none of them the same answer."""
        _, first = np.unique(self.prompts, return_index=True)
        again = np.ones(len(self), dtype=bool)
        again[first] = False
        return again & ~self.repeated()


def overlapping(mine: Keys, held_out: Keys) -> tuple[Places, Places]:
    """(place in `mine`, first place in `held_out`) of every row of `mine` whose prompt is held out, in order."""
    known, first = np.unique(held_out.prompts, return_index=True)
    if not len(known):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(known, mine.prompts), len(known) - 1)
    found = np.flatnonzero(known[at] == mine.prompts)
    return found, first[at[found]]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
