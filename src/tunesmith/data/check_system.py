"""System prompts: rows without one where most have one, and prompts that are rare beside the usual ones."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .audit import Finding
from .look import Places, Row

MOST = 0.5
"""From which share of rows with a system prompt one without is told."""
FREQUENT, COVERED, RARE = 0.05, 0.95, 0.01
"""Rare prompts are told where prompts of at least this share cover this much; where each row has its own, none is."""
FEWEST_ROWS = 20


class SystemPrompts:
    """Which row has which system prompt, as a hash: 20 bytes a row."""

    def __init__(self) -> None:
        self._places = Places()
        self._hashes = array("q")

    def see(self, portion: Sequence[Row]) -> None:
        """Note the system turns of each row; developer turns are system turns by a newer name."""
        for row in portion:
            turns = [m.content or "" for m in row.example.messages if m.role in ("system", "developer")]
            text = " ".join("\n".join(turns).split())
            self._hashes.append(hash(text) or 1 if text else 0)
            self._places.add(row.origin)

    def findings(self) -> Iterator[Finding]:
        """Rows without a system prompt, and rows with a rare one."""
        hashes = np.frombuffer(self._hashes, np.int64)
        without = np.flatnonzero(hashes == 0)
        having = len(hashes) - len(without)
        usual = len(hashes) >= FEWEST_ROWS and having >= MOST * len(hashes)
        if having and len(without) and not usual:
            yield self._mixed(hashes)
        if not usual:
            return
        if len(without):
            yield Finding(
                "system_prompt_absent", "warn",
                f"row has no system prompt, while {having} of {len(hashes)} rows have one",
                "give them the one that the model will be served with", self._places.at(without.tolist()),
            )  # fmt: skip
        yield from self._rare(hashes, having)

    def _mixed(self, hashes: NDArray[np.int64]) -> Finding:
        """That some rows have a system prompt and some have none, where it is open which is meant."""
        having = int(np.count_nonzero(hashes))
        fewer = hashes != 0 if 2 * having <= len(hashes) else hashes == 0
        told = "has a system prompt" if fewer[hashes != 0].any() else "has no system prompt"
        return Finding(
            "system_prompt_absent", "info", f"row {told}: {having} of {len(hashes)} rows have one",
            "nothing to do if the model will be served both ways", self._places.at(np.flatnonzero(fewer).tolist()),
        )  # fmt: skip

    def _rare(self, hashes: NDArray[np.int64], having: int) -> Iterator[Finding]:
        """Prompts beside which others cover nearly all rows."""
        counts = Counter(hashes[hashes != 0].tolist())
        frequent = [n for n in counts.values() if n >= FREQUENT * having]
        rare = [key for key, n in counts.items() if n <= RARE * having]
        if rare and sum(frequent) >= COVERED * having:
            yield Finding(
                "system_prompt_rare", "info",
                f"system prompt is rare ({len(rare)} such); {len(frequent)} cover {sum(frequent)} of {having} rows",
                "look whether it is meant, or differs from the usual one by a slip",
                self._places.at(np.flatnonzero(np.isin(hashes, rare)).tolist()),
            )  # fmt: skip
