"""Finds replaced by placeholders such as [EMAIL_1]: the same value, the same placeholder. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .hits import Hit, compact
from .scan import SECRET_KINDS, find

Known = Mapping[tuple[str, str], str]
"""(kind, value in one spelling) to placeholder: what a subject's earlier texts held."""
Find = Callable[[str], Sequence[Hit]]
"""A text to its finds."""

PLACEHOLDER = re.compile(r"\[([A-Z][A-Z0-9_]*)_([0-9]{1,9})\]")


@dataclass(frozen=True)
class Masked:
    """Texts after masking, in the order given; the kinds found in each; and what is now known of the subject."""

    texts: tuple[str, ...]
    kinds: tuple[tuple[str, ...], ...]
    known: Known


def mask(texts: Sequence[str], known: Known | None = None, find: Find = find) -> Masked:
    """Mask the texts of one row, or of one subject's rows in turn (give `known` of the row before).

    Numbers go on after the highest that `known` and the texts themselves hold, so a placeholder that already stands
    in a text never comes to mean something else. Text outside the finds stays as it is.
    """
    placeholders = dict(known or {})
    counters = _counters([*placeholders.values(), *texts])
    masked = [_mask_one(text, placeholders, counters, find) for text in texts]
    return Masked(tuple(text for text, _ in masked), tuple(kinds for _, kinds in masked), placeholders)


def _counters(texts: Sequence[str]) -> dict[str, int]:
    """The highest number of each kind among the placeholders in the texts."""
    counters: dict[str, int] = {}
    for text in texts:
        for kind, number in PLACEHOLDER.findall(text) if "[" in text else ():
            counters[kind] = max(counters.get(kind, 0), int(number))
    return counters


def _mask_one(
    text: str, placeholders: dict[tuple[str, str], str], counters: dict[str, int], find: Find
) -> tuple[str, tuple[str, ...]]:
    """Again until nothing is found: a placeholder is shorter than what it hides and may bring words nearer."""
    kinds: list[str] = []
    while hits := find(text):
        kinds += [hit.kind for hit in hits]
        text = _replace(text, hits, placeholders, counters)
    return text, tuple(kinds)


def _replace(text: str, hits: Sequence[Hit], placeholders: dict[tuple[str, str], str], counters: dict[str, int]) -> str:
    parts, position = [], 0
    for hit in hits:
        key = (hit.kind, _one_spelling(hit.kind, text[hit.start : hit.end]))
        if key not in placeholders:
            name = hit.kind.upper()
            counters[name] = counters.get(name, 0) + 1
            placeholders[key] = f"[{name}_{counters[name]}]"
        parts += [text[position : hit.start], placeholders[key]]
        position = hit.end
    return "".join([*parts, text[position:]])


def _one_spelling(kind: str, value: str) -> str:
    """Equal for values that differ in punctuation or case alone; keys and passwords count as they are."""
    if kind in SECRET_KINDS:
        return value
    return value.casefold() if kind in ("email", "ip_address") else compact(value)
