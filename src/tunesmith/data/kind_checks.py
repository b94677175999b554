"""What only rows of one kind can have wrong: pairs that contradict each other, labels that do, one answer too like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..core import fingerprints
from ..core.messages import Example, Kind, Labelled, Message, Preference
from . import checks
from .audit import Finding
from .keys import Keys
from .kinds import joined
from .rows import Mapped, pick

LONGER_SHARE, ENOUGH_PAIRS = 0.7, 50
RAREST_LABEL = 0.1


def preference(rows: Sequence[Preference]) -> Iterator[Finding]:
    """Pairs whose answers say the same, pairs that another one turns round, and answers preferred for their length."""
    same, turned, longer = [], [], 0
    known: dict[str, set[str]] = {}
    for row in rows:
        chosen, rejected = _said(row.chosen), _said(row.rejected)
        if chosen == rejected:
            same.append(row.origin)
        prompt = _said(row.prompt)
        if _key(prompt, rejected, chosen) in known.setdefault(_key(prompt), set()):
            turned.append(row.origin)
        known[_key(prompt)].add(_key(prompt, chosen, rejected))
        longer += len(chosen) > len(rejected)
    if same:
        yield Finding(
            "same_answers", "warn", "the chosen and the rejected answer differ in case or white space alone",
            "remove these pairs: there is nothing to prefer", tuple(same),
        )  # fmt: skip
    if turned:
        yield Finding(
            "contradictory_pairs", "warn", "this pair prefers what an earlier pair of the same prompt rejects",
            "decide which answer is the better one", tuple(turned),
        )  # fmt: skip
    share = longer / len(rows) if rows else 0.0
    if len(rows) >= ENOUGH_PAIRS and share > LONGER_SHARE:
        yield Finding(
            "longer_preferred", "warn", f"the chosen answer is the longer one in {share:.0%} of the pairs",
            "a model learns length from such pairs (Park et al. 2024, arXiv 2403.19159): balance them, or use a loss "
            "with a penalty on length",
        )  # fmt: skip


def labelled(rows: Sequence[Labelled]) -> Iterator[Finding]:
    """Answers that are called good once and bad another time; labels that are nearly all the same."""
    known: dict[str, bool] = {}
    places, good = [], 0
    for row in rows:
        key = _key(_said((*row.prompt, row.answer)))
        if known.setdefault(key, row.label) != row.label:
            places.append(row.origin)
        good += row.label
    if places:
        yield Finding(
            "contradictory_labels", "warn", "an earlier row has the same prompt and answer with the other label",
            "decide on one label", tuple(places),
        )  # fmt: skip
    rare = min(good, len(rows) - good)
    if len(rows) >= ENOUGH_PAIRS and rare < RAREST_LABEL * len(rows):
        yield Finding(
            "label_imbalance", "warn", f"{good} of {len(rows)} answers are good, the others bad",
            "give more of the rare kind, or weigh it up in the loss",
        )  # fmt: skip


OF_KIND: dict[Kind, Callable[[Sequence[Any]], Iterator[Finding]]] = {"preference": preference, "labelled": labelled}


def comparable(rows: Sequence[Any]) -> list[Sequence[Example]]:
    """The rows, joined, that can repeat each other: all, but of labelled rows the good and the bad apart."""
    if not rows or not isinstance(rows[0], Labelled):
        return [Mapped(rows, joined)]
    good = np.fromiter((row.label for row in rows), bool, len(rows))
    return [Mapped(pick(rows, np.flatnonzero(side)), joined) for side in (good, ~good)]


def duplicates(view: Sequence[Example], keys: Keys) -> Iterator[Finding]:
    """Exact repetitions; rows that only share a prompt are what such sets are made of."""
    yield from (found for found in checks.duplicates(view, keys) if found.code == "duplicate_rows")


def _said(turns: Sequence[Message]) -> str:
    """What is said in the turns, up to case and white space; calls of tools included."""
    texts = (f"{m.content or ''} {m.tool_calls or ''}" for m in turns)
    return "\x1e".join(" ".join(text.casefold().split()) for text in texts)


def _key(*parts: str) -> str:
    """A short name of the texts, to keep instead of them."""
    return fingerprints.of_bytes("\x1f".join(parts).encode("utf-8", "surrogatepass"))[:24]
