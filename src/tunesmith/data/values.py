"""Values of rows by key: what rows are labelled, grouped and ordered by. Of each row only a number is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ContentError, nearest
from ..core.messages import Example
from .audit import Finding
from .labels import LONGEST_LABEL

LABEL = "label"
"""In the place of a key: the row's answer."""
FEWEST_A_LABEL = 2
"""The user says here that answers are labels, so less is asked than where it must be guessed (labels.label_counts)."""
_LOOKED_AT = 1000
"""Rows whose keys are named when no row has the one that is asked for."""
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Column:
    """One value a row: `codes` [rows] are places in `names`, -1 for a row without a value."""

    codes: NDArray[np.int64]
    names: tuple[str, ...]


def labels(examples: Sequence[Example], key: str, where: str) -> Column:
    """The rows' labels: their answers where `key` is "label", else their values under that key.

    Answers that cannot be labels (long ones, JSON) are none, for general rows may be mixed in.
    ContentError, with the recipe's key `where`, when answers are no labels or no row has the key.
    """
    if key != LABEL:
        return values(examples, key, where, (LABEL,))
    found = _column((_short(e.answer()) for e in examples), len(examples))
    with_one = int(np.count_nonzero(found.codes >= 0))
    if len(examples) and not FEWEST_A_LABEL * len(found.names) <= with_one > 0:
        raise ContentError(
            f"{where} is '{LABEL}', but the answers are no labels", where=where,
            why=f"labels are short, in one line, and come {FEWEST_A_LABEL} times each on average; here are "
            f"{len(found.names):,} different short answers in {with_one:,} rows, and {len(examples) - with_one:,} rows "
            "with others",
            mend=f"name a key of the rows instead; {_keys(examples)}",
        )  # fmt: skip
    return found


def values(examples: Sequence[Example], key: str, where: str, words: Sequence[str] = ()) -> Column:
    """What the rows have under `key`, as text; ContentError when none has it.

    `words` are what `where` may say instead of a key, for the error to name.
    """
    found = _column((_text(e.metadata.get(key)) for e in examples), len(examples))
    if len(examples) and not found.names:
        raise _absent(examples, key, where, words)
    return found


def sort_values(
    examples: Sequence[Example], key: str, where: str, role: str, words: Sequence[str] = ()
) -> tuple[NDArray[np.float64], list[Finding]]:
    """(numbers to order rows by [rows], findings). Numbers stand for themselves, ISO dates for seconds since 1970.

    A row without a usable value has minus infinity and is told; a date without a zone is taken as UTC. Dates among
    numbers, or the other way round, cannot be ordered: what the first row has is what all must have.
    ContentError when no row has the key, which names `words` too: what `where` may say instead of a key.
    """
    order = np.full(len(examples), -math.inf)
    kind, given = "", False
    bad: list[str] = []
    for index, example in enumerate(examples):
        value = example.metadata.get(key)
        given = given or value is not None
        read = _sortable(value)
        kind = kind or (read[0] if read else "")
        if read and read[0] == kind:
            order[index] = read[1]
        else:
            bad.append(example.origin)
    if len(examples) and not given:
        raise _absent(examples, key, where, words)
    if not bad:
        return order, []
    wanted = {"date": "an ISO date", "number": "a number", "": "an ISO date (2026-01-31, 2026-01-31T09:30Z) or number"}
    finding = Finding(
        "no_sort_key", "block", f"row has no '{key}' that is {wanted[kind]}, so it cannot be {role}",
        f"give these rows one; waive it to count them as the smallest (data.waive); or leave {where} out", tuple(bad),
    )  # fmt: skip
    return order, [finding]


def _column(items: Iterable[str | None], rows: int) -> Column:
    known: dict[str, int] = {}
    codes = (-1 if item is None else known.setdefault(item, len(known)) for item in items)
    return Column(np.fromiter(codes, np.int64, rows), tuple(known))


def _short(answer: str) -> str | None:
    """The answer where it may be a label; one that cannot be is not kept."""
    text = answer.strip()
    return text if 0 < len(text) <= LONGEST_LABEL and "\n" not in text and text[0] not in "{[" else None


def _text(value: Any) -> str | None:
    """A value to group by; none for what says nothing. Numbers that are equal are equal texts (3 and 3.0)."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _sortable(value: Any) -> tuple[str, float] | None:
    """("number" or "date", its place) of a value; None where it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | str):
        with suppress(ValueError, OverflowError):
            number = float(value)
            return ("number", number) if math.isfinite(number) else None
    with suppress(ValueError, OverflowError):
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if isinstance(value, datetime):
            zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
            return "date", (zoned - _START).total_seconds()
    return None


def _absent(examples: Sequence[Example], key: str, where: str, words: Sequence[str]) -> ContentError:
    return ContentError(
        f"no row has the key '{key}' that {where} names", where=where,
        mend=f"name a key of the rows; {_keys(examples, key, words)}",
    )  # fmt: skip


def _keys(examples: Sequence[Example], key: str = "", words: Sequence[str] = ()) -> str:
    """The keys that rows have besides what is trained on."""
    known = {name for example in islice(examples, _LOOKED_AT) for name in example.metadata} | {*words}
    return nearest(key, known) if known else "these rows have none besides what is trained on"
