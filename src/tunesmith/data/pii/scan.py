"""One text to its finds: a few quick looks first, then only the detectors that these call for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from .card import Card
from .email import Email
from .hits import AT, CODE, COLONS, CUE, DIGITS, DOTTED, LONG, START, Detector, Hit
from .iban import Iban
from .ids_europe import EUROPE
from .ids_world import WORLD
from .ip import Ip4, Ip6
from .phone import Phone
from .secrets import CUES, SECRETS, STARTS

DETECTORS: tuple[Detector, ...] = (*SECRETS, Email(), Ip6(), Ip4(), Iban(), *EUROPE, *WORLD, Card(), Phone())
"""All detectors, the more certain before the less: of overlapping finds, the earlier detector's stays."""

SECRET_KINDS = frozenset(detector.kind for detector in SECRETS)
"""Kinds that open something, rather than name somebody."""

_DIGIT = re.compile(r"[0-9]")
_DIGITS = re.compile("[0-9](?:[ .\\-/()\u00a0\u2010-\u2013]{0,2}[0-9]){5}")
_LONG = re.compile(_DIGITS.pattern.replace("{5}", "{8}"))
_DOTTED = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]")
_CODE = re.compile(r"[0-9][A-Za-z][0-9]")


def signals(text: str) -> int:
    """Which of the signals (see `hits`) a text has."""
    found = AT if "@" in text else 0
    if text.count(":") > 1:
        found |= COLONS
    if _DIGIT.search(text):
        if number := _DIGITS.search(text):
            found |= DIGITS | (LONG if _LONG.search(text, number.start()) else 0)
        found |= DOTTED if _DOTTED.search(text) else 0
        found |= CODE if _CODE.search(text) else 0
    if _holds(text, STARTS):
        found |= START
    return found | CUE if _holds(text.lower(), CUES) else found


def _holds(text: str, parts: Sequence[str]) -> bool:
    for part in parts:  # noqa: SIM110  a generator for any() takes twice as long
        if part in text:
            return True
    return False


@cache
def _wanted(found: int) -> tuple[Detector, ...]:
    return tuple(detector for detector in DETECTORS if detector.needs & found)


def find(text: str) -> list[Hit]:
    """All finds in a text, in order and without overlaps.

    Of two that overlap, the one of the detector that stands earlier in `DETECTORS` stays; of one detector's, the
    earlier.
    """
    wanted = _wanted(signals(text))
    return apart([hit for detector in wanted for hit in detector.find(text)]) if wanted else []


def apart(hits: Sequence[Hit]) -> list[Hit]:
    """Hits without overlaps, in order: of two that overlap, the one that comes first here stays."""
    kept: list[Hit] = []
    for hit in hits:  # in the order of the table
        if all(hit.end <= other.start or other.end <= hit.start for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda hit: hit.start)
