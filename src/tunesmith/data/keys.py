"""What makes two rows the same, as numbers: hashes of their prompts and answers.

64 bits each. Among a million rows two different texts share a hash with a chance of three in a hundred million.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example, spoken, squeezed
from .shingles import mixed

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """Hashes of N rows."""

    prompts: Hashes
    """uint64 [N], of the prompts with their tool calls, up to case and white space (`Example.prompt_key`)."""
    answers: Hashes
    """uint64 [N], of what is said and called behind the prompts, up to white space and the ids of calls."""
    thoughts: Hashes
    """uint64 [N], of the thinking before it; 0 where there is none."""
    tools: Hashes
    """uint64 [N], of the tools that may be called; 0 where there are none."""

    @staticmethod
    def of(examples: Sequence[Example]) -> Keys:
        """One pass over the rows."""
        hashes = np.empty((4, len(examples)), dtype=np.uint64)
        for index, example in enumerate(examples):
            said, thought = _replied(example)
            hashes[:, index] = (
                _hash(example.prompt_key()), _hash(said), _hash(thought) if thought else 0,
                _hash(json.dumps(example.tools, sort_keys=True)) if example.tools else 0,
            )  # fmt: skip
        return Keys(*hashes)

    def __len__(self) -> int:
        return len(self.prompts)

    def pick(self, places: Places) -> Keys:
        """Those of some rows."""
        return Keys(self.prompts[places], self.answers[places], self.thoughts[places], self.tools[places])

    def groups(self) -> Places:
        """A number for each row, int64 [N], equal for equal prompts, from 0 in order of first appearance."""
        _, first, inverse = np.unique(self.prompts, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        return rank[inverse]

    def repeated(self) -> NDArray[np.bool_]:
        """bool [N]: whether an earlier row has the same tools and prompt, the same thinking and the same answer."""
        return _later(self.same())

    def same(self) -> Places:
        """int64 [N]: the first row with the same tools, prompt, thinking and answer; most often the row itself."""
        return _first(self.prompts, self.tools, self.answers, self.thoughts)

    def asked(self) -> Places:
        """int64 [N]: the first row with the same tools and prompt."""
        return _first(self.prompts, self.tools)

    def contradicting(self) -> NDArray[np.bool_]:
        """bool [N]: whether an earlier row has the same tools and prompt, and none of them the same answer.

        Two ways of thinking that come to one answer do not contradict each other.
        """
        return _later(self.asked()) & ~_later(_first(self.prompts, self.tools, self.answers))


def overlapping(mine: Keys, held_out: Keys) -> tuple[Places, Places]:
    """(place in `mine`, first place in `held_out`) of every row of `mine` whose prompt is held out, in order."""
    known, first = np.unique(held_out.prompts, return_index=True)
    if not len(known):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(known, mine.prompts), len(known) - 1)
    found = np.flatnonzero(known[at] == mine.prompts)
    return found, first[at[found]]


def _first(*columns: Hashes) -> Places:
    """int64 [N]: the first row that has the same numbers in all columns."""
    together = columns[0]
    for column in columns[1:]:
        together = mixed(together) ^ column
    _, first, inverse = np.unique(together, return_index=True, return_inverse=True)
    return first[inverse]


def _later(first: Places) -> NDArray[np.bool_]:
    """bool [N]: whether that first row is an earlier one."""
    later: NDArray[np.bool_] = first < np.arange(len(first))
    return later


def _replied(example: Example) -> tuple[str, str]:
    """(what is said and called behind the prompt, the thinking before it), each up to white space."""
    turns = example.reply()
    said = "\x1e".join(squeezed(spoken(m.content or "")) + m.calls() for m in turns)
    return said, squeezed(" ".join(m.thinking for m in turns))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
