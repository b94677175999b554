"""Texts to sets of word shingles, as 64-bit hashes. Knows nothing of rows, signatures or findings.

A word is a run of letters, digits and `_`, without case; every CJK character is a word, for these scripts put no
space between words. A shingle is `SHINGLE` words in a row (Broder 1997, "On the resemblance and containment of
documents", section 2); a text with fewer words is one shingle. Everything is done on the bytes of many texts at
once: a Python loop over words would cost more than all that follows.

Shapes: B bytes, W words and S shingles of all texts together, T texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

SHINGLE = 3
_LONGEST_WORD = 256
"""Bytes of a word that count on their own; behind them the weights come again from the start."""

_WORD = np.zeros(256, dtype=bool)
_WORD[[b for b in range(128) if chr(b).isalnum() or chr(b) == "_"]] = True
_WORD[128:] = True
_OWN_WORD = np.zeros(256, dtype=bool)
_OWN_WORD[0xE3:0xEA] = True
"""First bytes in UTF-8 of U+3000 to U+9FFF: kana and Chinese characters."""

_random = np.random.default_rng(0x51A1)
_BYTE = _random.integers(1, 2**64, 256, dtype=np.uint64)
_POSITION = _random.integers(1, 2**64, _LONGEST_WORD, dtype=np.uint64) | np.uint64(1)
_ORDER = _random.integers(1, 2**64, SHINGLE, dtype=np.uint64) | np.uint64(1)


@dataclass(frozen=True)
class Shingles:
    """Shingles of T texts, repetitions included: those of text t are hashes[start[t]:start[t + 1]]."""

    hashes: Hashes
    """uint64 [S]."""
    start: Places
    """int64 [T + 1]."""

    @property
    def counts(self) -> Places:
        """Shingles of each text, int64 [T]."""
        return np.diff(self.start)


@dataclass(frozen=True)
class Words:
    """Words of T texts: those of text t are hashes[start[t]:start[t + 1]]."""

    hashes: Hashes
    """uint64 [W]."""
    start: Places
    """int64 [T + 1]."""

    def ordered(self) -> Hashes:
        """One hash of all words of a text in their order, uint64 [T]; 0 where there are none."""
        counts = np.diff(self.start)
        place = (np.arange(len(self.hashes)) - np.repeat(self.start[:-1], counts)).astype(np.uint64)
        weighted = mixed(self.hashes + place * _ORDER[0])
        sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(weighted, dtype=np.uint64)))
        return sums[self.start[1:]] - sums[self.start[:-1]]


def shingles(words: Words) -> Shingles:
    """The shingles of each text; a text without any word has none."""
    owner, begins = _windows(words.start)
    hashes = np.zeros(len(begins), dtype=np.uint64)
    end = words.start[owner + 1]
    for offset in range(SHINGLE):
        at = begins + offset
        inside = at < end
        hashes[inside] += words.hashes[at[inside]] * _ORDER[offset]
    counts = np.bincount(owner, minlength=len(words.start) - 1)
    return Shingles(mixed(hashes), np.concatenate(([0], np.cumsum(counts))).astype(np.int64))


def words(texts: Sequence[str]) -> Words:
    """The words of each text, as hashes."""
    encoded = [text.casefold().encode("utf-8", "surrogatepass") for text in texts]
    content = np.frombuffer(b" ".join([*encoded, b""]), dtype=np.uint8)
    lengths = np.fromiter((len(e) + 1 for e in encoded), dtype=np.int64, count=len(encoded))
    ends = np.cumsum(lengths)
    inside = _WORD[content]
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    begins |= _OWN_WORD[content]
    at = np.flatnonzero(inside)
    firsts = np.flatnonzero(begins)
    per_text = np.searchsorted(firsts, ends)
    start = np.concatenate(([0], per_text)).astype(np.int64)
    if not len(firsts):
        return Words(np.zeros(0, dtype=np.uint64), start)
    heads = np.searchsorted(at, firsts)
    position = (np.arange(len(at)) - np.repeat(heads, np.diff(np.append(heads, len(at))))) % _LONGEST_WORD
    return Words(mixed(np.add.reduceat(_BYTE[content[at]] * _POSITION[position], heads)), start)


def mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the input reaches every bit of the output."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _windows(start: Places) -> tuple[Places, Places]:
    """(text, first word) of every shingle: one for each word that has SHINGLE - 1 behind it, at least one a text."""
    words = np.diff(start)
    counts = np.where(words > 0, np.maximum(words - SHINGLE + 1, 1), 0)
    owner = np.repeat(np.arange(len(words)), counts)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, start[owner] + within
