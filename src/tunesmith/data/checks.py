"""The checks behind the audit: each looks at rows and gives the findings it has. None changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..core.messages import Example
from .audit import FileFacts, Finding
from .excerpt import excerpt
from .keys import Keys, Places
from .load import Loaded, Problem
from .pii import find as by_shape
from .pii.mask import Find

PlacePairs = tuple[Places, Places]
"""Rows that belong together: the places of one in each of two sequences."""


def file_facts(loaded: Loaded, path: str, role: str) -> FileFacts:
    """What the audit says of a file that was read; `path` as the recipe names it."""
    return FileFacts(path, role, loaded.format, loaded.rows, len(loaded.records), loaded.sha256, loaded.root)


def bad_rows(loaded: Loaded, find: Find = by_shape) -> Iterator[Finding]:
    """Rows that cannot be used, grouped by reason; `find` says what is masked in an example."""
    reasons: dict[str, list[Problem]] = {}
    for problem in loaded.problems:
        reasons.setdefault(problem.reason, []).append(problem)
    for reason, problems in reasons.items():
        yield Finding(
            "bad_row", "block", f"row cannot be used: {reason}", "correct or remove these rows",
            tuple(problem.place for problem in problems), excerpt(problems[0].shown, find=find),
        )  # fmt: skip


def duplicates(examples: Sequence[Example], keys: Keys) -> Iterator[Finding]:
    """Rows that say the same again, and rows that answer the same prompt differently; each beside the first such."""
    same, differing = (
        [f"{examples[i].origin} = {examples[int(first[i])].origin}" for i in np.flatnonzero(rows).tolist()]
        for rows, first in ((keys.repeated(), keys.same()), (keys.contradicting(), keys.asked()))
    )
    if same:
        yield Finding(
            "duplicate_rows", "warn", "row repeats an earlier one (same prompt, same answer)",
            "remove the repetitions, unless the weight is meant", tuple(same),
        )  # fmt: skip
    if differing:
        yield Finding(
            "conflicting_answers", "warn", "row answers an earlier row's prompt differently",
            "decide on one answer for each prompt, unless several are right", tuple(differing),
        )  # fmt: skip


def overlap(
    pairs: PlacePairs, train: Sequence[Example], other: Sequence[Example], role: str, policy: str
) -> Iterator[Finding]:
    """Training rows whose prompt is among the held-out rows."""
    places = _equal(pairs, train, other)
    if not places:
        return
    if policy == "drop":
        yield Finding(
            "overlap_dropped", "warn", f"training row left out: its prompt is also in the {role} file",
            "nothing to do; remove them from the training file to silence this", places,
        )  # fmt: skip
    else:
        yield Finding(
            "overlap", "block", f"the prompt of this training row is also in the {role} file",
            "remove these rows from one side, or set data.on_overlap: drop", places,
        )  # fmt: skip


def held_out_overlap(pairs: PlacePairs, validation: Sequence[Example], test: Sequence[Example]) -> Iterator[Finding]:
    """Validation rows whose prompt is among the test rows: the checkpoint would be chosen on the test."""
    places = _equal(pairs, validation, test)
    if places:
        yield Finding(
            "overlap_held_out", "block", "the prompt of this validation row is also in the test file",
            "remove these rows from the validation file", places,
        )  # fmt: skip


def _equal(pairs: PlacePairs, mine: Sequence[Example], other: Sequence[Example]) -> tuple[str, ...]:
    return tuple(
        f"{mine[i].origin} = {other[j].origin}" for i, j in zip(*(side.tolist() for side in pairs), strict=True)
    )
