"""Validation and test rows out of training rows without leakage.

Rows with the same prompt always go to the same side, so that no held-out answer can be recalled; so do rows of one
group (a customer, a ticket) where the recipe names one. What is joined so, directly or through other rows, is a unit.
A draw is a function of the rows and the seed alone: a resumed run has the same sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from . import draw, values
from .audit import Audit, Finding, LabelShare, SplitFacts
from .config import DataSpec, SplitSpec
from .dedup import Pairs, clusters
from .draw import Numbers
from .values import Column

TEST_DRAW = 1
"""What tells the draw of test rows from that of validation rows under one seed."""
WIDE = 0.1
"""Rows more or fewer than wanted, as a share of those wanted, from which it is told."""


def hold_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of (training, validation) rows, in file order, drawn at random: see `draw.at_random`.

    Where share > 0 and there are two different prompts, at least one is held out.
    """
    units = _units(examples, None)
    if not _can_split(units, share):
        return list(range(len(examples))), []
    held = draw.at_random(units, _wanted(share, len(units)), np.random.default_rng(seed))
    return _sides(units, held)


def split_off(
    examples: Sequence[Example], share: float, role: str, data: DataSpec, seed: int, audit: Audit
) -> tuple[list[int], list[int]]:
    """Indices of (kept, held out) rows for `role` ("test" or "validation") as `data.split` says, in file order.

    What came of it goes into the audit. ContentError for a key that no row has, and for answers that are no labels.
    """
    if share <= 0 or not len(examples):
        return list(range(len(examples))), []
    rows = _Keyed.of(examples, data.split, data.subject, audit)
    if not _can_split(rows.units, share):
        audit.add(_impossible(role, data.split))
        return list(range(len(examples))), []
    key = [seed, TEST_DRAW] if role == "test" else seed
    held = rows.held(share, np.random.default_rng(key))
    sides = _sides(rows.units, held)
    facts = rows.facts(role, share, data.split, sides[1])
    audit.splits.append(facts)
    if data.split:
        audit.findings += _off(facts, rows, data.split)
    return sides


@dataclass(frozen=True)
class _Keyed:
    """What a split looks at of each row."""

    units: Numbers
    """The unit of each row [rows]."""
    labels: Column | None
    groups: Column | None
    times: NDArray[np.float64] | None

    @staticmethod
    def of(examples: Sequence[Example], split: SplitSpec | None, subject: str | None, audit: Audit) -> _Keyed:
        """Read the keys that the recipe names."""
        if split is None:
            return _Keyed(_units(examples, None), None, None, None)
        labels = values.labels(examples, split.stratify, "data.split.stratify") if split.stratify else None
        group = (subject or split.group) if split.group == "subject" else split.group
        groups = values.values(examples, group, "data.split.group") if group else None
        times = None
        if split.by_time:
            times, findings = values.sort_values(examples, split.by_time, "data.split.by_time", "split by time")
            told = {f.message for f in audit.findings}  # by the draw for the other role
            audit.findings += [f for f in findings if f.message not in told]
        return _Keyed(_units(examples, groups), labels, groups, times)

    def held(self, share: float, rng: np.random.Generator) -> list[int]:
        """The units that are held out."""
        wanted = _wanted(share, len(self.units))
        if self.times is not None:
            return draw.newest(self.units, self.times, wanted)
        if self.labels is None:
            return draw.at_random(self.units, wanted, rng)
        codes = self.labels.codes + 1  # rows without a label are a stratum too
        counts = np.bincount(codes, minlength=len(self.labels.names) + 1)
        wanted = min(wanted, len(codes) - 1)
        return draw.stratified(self.units, codes, draw.quotas(counts, share, wanted, rng), rng)

    def facts(self, role: str, share: float, split: SplitSpec | None, held: list[int]) -> SplitFacts:
        """The exact shares that came of it."""
        labels = self.labels
        shares: list[LabelShare] = []
        if labels is not None:
            rows, out = (
                np.bincount(c + 1, minlength=len(labels.names) + 1) for c in (labels.codes, labels.codes[held])
            )
            names = ("", *labels.names)
            shares = [LabelShare(names[i], int(rows[i]), int(out[i])) for i in np.flatnonzero(rows).tolist()]
        alone = 0 if self.groups is None else int(np.count_nonzero(self.groups.codes < 0))
        rule = split.model_dump(exclude_none=True) if split else {}
        return SplitFacts(role, share, len(held), len(self.units), rule, alone, tuple(shares))


def _units(examples: Sequence[Example], groups: Column | None) -> Numbers:
    """The unit of each row [rows], numbered in the order in which they are first met."""
    prompts = draw.numbered(np.fromiter((_hashed(e.prompt_key()) for e in examples), np.uint64, len(examples)))
    if groups is None:
        return prompts
    # A row without a group stands for itself.
    named = np.where(groups.codes < 0, len(groups.names) + np.arange(len(prompts)), groups.codes)
    return draw.numbered(clusters(_joined(prompts, draw.numbered(named)), len(prompts)))


def _joined(*columns: Numbers) -> Pairs:
    """Each row and the first row with the same number, in every column."""
    rows = np.arange(len(columns[0]))
    firsts = [np.unique(column, return_index=True)[1][column] for column in columns]
    return Pairs(np.concatenate(firsts), np.tile(rows, len(columns)), np.ones(len(rows) * len(columns)))


def _hashed(key: str) -> int:
    """64 bits: two prompts that were equal by chance would only go to the same side."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _can_split(units: Numbers, share: float) -> bool:
    return share > 0 and len(units) > 0 and int(units.max()) > 0


def _wanted(share: float, rows: int) -> int:
    return max(1, round(share * rows))


def _sides(units: Numbers, held: list[int]) -> tuple[list[int], list[int]]:
    out = np.zeros(int(units.max()) + 1, dtype=bool)
    out[held] = True
    return np.flatnonzero(~out[units]).tolist(), np.flatnonzero(out[units]).tolist()


def _together(split: SplitSpec | None) -> str:
    return "with the same prompt or the same group" if split and split.group else "with the same prompt"


def _impossible(role: str, split: SplitSpec | None) -> Finding:
    return Finding(
        "no_split", "warn", f"no row is held out for {role}: all rows {_together(split)} stay together, and here "
        "that joins every row", f"give a file as data.{role}" + (", or group by a finer key" if split and split.group
        else ", or rows with different prompts"),
    )  # fmt: skip


def _off(facts: SplitFacts, rows: _Keyed, split: SplitSpec) -> Iterator[Finding]:
    """A split that is far from the share that was asked for, because of units too large for it."""
    wanted = _wanted(facts.wanted, facts.of)
    if abs(facts.rows - wanted) <= max(1, WIDE * wanted):
        return
    largest = int(np.bincount(rows.units).max())
    yield Finding(
        "split_off", "warn", f"{facts.rows:,} rows are held out for {facts.role}, {wanted:,} were wanted: rows "
        f"{_together(split)} stay together, directly or through other rows, in sets of up to {largest:,}",
        f"group by a finer key, or give a file as data.{facts.role}",
    )  # fmt: skip
