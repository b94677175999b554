"""Many texts to the few that are worth a look, by counting bytes in bulk: most rows hold nothing that could be a find.

Coarser than `signals` of one text and never narrower: a property test holds that `find_all` finds what `find` finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from .hits import Hit
from .scan import find
from .secrets import CUES

BLOCK = 1_000_000
"""Characters of text looked at together."""

_DIGIT, _AT, _COLON, _DOT, _LETTER, _BREAK, _WIDE, _JOINER, _MINUS = range(1, 10)


def _classes() -> NDArray[np.uint8]:
    """The class of each byte. Separators inside numbers have none; what ends a number breaks; the rest of UTF-8 may
    be a separator of several bytes (a hard space, a dash).
    """
    table = np.full(256, _BREAK, np.uint8)
    table[list(b" /()")] = 0
    table[0x80:] = _WIDE
    table[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")] = _LETTER
    table[list(b"0123456789")] = _DIGIT
    table[ord("_")], table[ord("-")] = _JOINER, _MINUS
    table[[ord("@"), ord(":"), ord(".")]] = _AT, _COLON, _DOT
    return table


_CLASSES = _classes().tobytes()
_FEWEST_DIGITS = 6  # in a number that is a find; a short IPv4 address has four,
_SHORTEST_TOKEN = 15
_OUTSIDE = np.isin(_classes(), (_DIGIT, _LETTER, _JOINER, _MINUS), invert=True).tobytes()
"""For each byte whether it ends a token."""
_SEPARATOR = np.isin(np.arange(10), (0, _DOT, _MINUS))
_GAP, _WIDE_GAP = 3, 7  # bytes from digit to digit with two separators between, of one byte or of up to three


def find_all(texts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, list[Hit]]]:
    """(number, text, finds) of every numbered text in which something is found, in order."""
    for block in _blocks(texts):
        for place in candidates([text for _, text in block]):
            number, text = block[place]
            if hits := find(text):
                yield number, text, hits


def _blocks(texts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    block: list[tuple[int, str]] = []
    size = 0
    for number, text in texts:
        block.append((number, text))
        size += len(text)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def candidates(texts: Sequence[str]) -> list[int]:
    """Indices of the texts that could hold a find."""
    encoded = [text.encode("utf-8", "surrogatepass") + b"\n" for text in texts]
    ends = np.fromiter(accumulate(map(len, encoded)), np.int64, len(encoded))
    blob = b"".join(encoded)
    classes = np.frombuffer(blob.translate(_CLASSES), np.uint8)
    at, colons = (_count(np.flatnonzero(classes == c), ends) for c in (_AT, _COLON))
    digits = np.flatnonzero(classes == _DIGIT)
    wanted = (at > 0) | (colons >= 2) & (_count(digits, ends) > 0)
    wanted |= _count(_numbers(digits, classes, ends), ends) > 0
    wanted |= _count(_runs(blob), ends) > 0
    low = blob.lower()
    for cue in CUES:
        wanted |= _count(_places(low, cue.encode()), ends) > 0
    return [int(index) for index in np.flatnonzero(wanted)]


def _numbers(digits: NDArray[np.int64], classes: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where six digits stand with at most two separators between any two; digit, letter, digit; or 1.2.3."""
    if not len(digits):
        return digits
    gaps = np.diff(digits)
    after = classes[digits[:-1] + 1]
    code = (gaps == 2) & (after == _LETTER)
    dotted = np.flatnonzero((gaps == 2) & (after == _DOT))
    follow = np.diff(digits[dotted]) == np.diff(dotted) + 1  # nothing but digits from one dot to the next
    joined = (gaps == 1) | (gaps <= _WIDE_GAP) & (after == _WIDE) | (gaps <= _GAP) & (_SEPARATOR[after])
    joined &= np.diff(np.searchsorted(ends, digits, side="right")) == 0  # a number does not run on into the next text
    starts = np.flatnonzero(np.append(True, ~joined))
    lengths = np.diff(np.append(starts, len(digits)))
    return np.concatenate([digits[starts[lengths >= _FEWEST_DIGITS]], digits[:-1][code], digits[dotted[:-1][follow]]])


def _runs(blob: bytes) -> NDArray[np.int64]:
    """Where a stretch of letters, digits, _ and - is long enough for a provider's token."""
    starts = np.append(-1, np.flatnonzero(np.frombuffer(blob.translate(_OUTSIDE), np.bool_)))
    return starts[np.diff(np.append(starts, len(blob))) > _SHORTEST_TOKEN] + 1


def _count(places: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the places lie in each text, by where the texts end."""
    return np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(ends))


def _places(blob: bytes, part: bytes) -> NDArray[np.int64]:
    found = []
    place = blob.find(part)
    while place >= 0:
        found.append(place)
        place = blob.find(part, place + 1)
    return np.array(found, np.int64)
