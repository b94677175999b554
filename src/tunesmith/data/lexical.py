"""Texts found by the words that they share with a question: BM25, and which texts hold a given phrase.

score(q, d) = sum over the words w of q of  idf(w) * f(w, d) * (k + 1) / (f(w, d) + k * (1 - b + b * |d| / mean |d|)),
idf(w) = ln(1 + (N - n(w) + 1/2) / (n(w) + 1/2)): Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework",
equation 3.15, with the idf of Lucene, which is never negative. A word of q counts once.

Shapes: N texts, W different words, M pairs of a text and a word in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

K, B = 1.2, 0.75
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""A run of letters and digits; kana and Chinese characters, which have no space between words, each alone."""
_DIGITS = 9
"""Decimals of a score that count: machines differ in the last bits of a logarithm, and must not differ in ties."""

Indices = NDArray[np.intp]
Scores = NDArray[np.float64]


def words(text: str) -> list[str]:
    """The words of a text, without case and typographic variants."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def best(scores: NDArray[np.floating[Any]], among: Indices, count: int) -> list[int]:
    """Of the places `among`, ascending, the `count` with the highest scores, the highest first; of equal the first."""
    if len(among) > count > 0:
        least = np.partition(scores[among], len(among) - count)[len(among) - count]
        among = among[scores[among] >= least]
    return [int(place) for place in among[np.argsort(-scores[among], kind="stable")][:count]]


class Lexical:
    """An index of texts."""

    def __init__(self, texts: Sequence[str]):
        self._texts = texts
        self._known: dict[str, int] = {}
        owners, terms, counts, lengths = [], [], [], []
        self._phrases: list[str] = []
        for number, text in enumerate(texts):
            own = words(text)
            ids = [self._known.setdefault(word, len(self._known)) for word in own]
            distinct, times = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
            terms.append(distinct)
            counts.append(times)
            owners.append(np.full(len(distinct), number))
            lengths.append(len(own))
            self._phrases.append(_phrase(own))
        term_M, owner_M = np.concatenate([*terms, np.zeros(0, int)]), np.concatenate([*owners, np.zeros(0, int)])
        order = np.argsort(term_M, kind="stable")
        self._owner_M = owner_M[order]
        self._start = np.searchsorted(term_M[order], np.arange(len(self._known) + 1))
        count_M = np.concatenate([*counts, np.zeros(0, int)])[order].astype(np.float64)
        length = np.array(lengths, dtype=np.float64)[self._owner_M] / max(np.mean(lengths or [1]), 1e-9)
        self._idf_W = self._rarity(np.diff(self._start))
        gain_M = count_M * (K + 1) / (count_M + K * (1 - B + B * length))
        self._weight_M = gain_M * np.repeat(self._idf_W, np.diff(self._start))

    def _rarity(self, texts_with: NDArray[np.intp] | int) -> Scores:
        return np.log1p((len(self._texts) - texts_with + 0.5) / (np.asarray(texts_with) + 0.5))

    def scores(self, query: Iterable[str]) -> Scores:
        """BM25 of every text for the words of a query, float64 [N]."""
        total = np.zeros(len(self._texts))
        for word in dict.fromkeys(query):
            if word in self._known:
                part = self._part(word)
                total[self._owner_M[part]] += self._weight_M[part]
        return np.round(total, _DIGITS)

    def coverage(self, query: Iterable[str], text: int) -> float:
        """The share of a query's words, by their rarity, that a text holds: 0 to 1. Words of no text are rarest."""
        held = asked = 0.0
        for word in dict.fromkeys(query):
            known = self._known.get(word)
            rarity = float(self._rarity(0) if known is None else self._idf_W[known])
            asked += rarity
            held += rarity if known is not None and text in self._having(word) else 0.0
        return round(held / asked, _DIGITS) if asked else 0.0

    def holding(self, phrase: str) -> Indices:
        """The texts in which the words of a phrase stand in a row, ascending.

        Case and punctuation do not count; a phrase of punctuation alone is looked for as it stands.
        """
        wanted = words(phrase)
        if not wanted:
            mark = phrase.strip()
            return np.array([i for i, text in enumerate(self._texts) if mark and mark in text], dtype=np.intp)
        if any(word not in self._known for word in wanted):
            return np.zeros(0, dtype=np.intp)
        left = min((self._having(word) for word in set(wanted)), key=len)
        spelled = _phrase(wanted)
        return np.array([i for i in left if spelled in self._phrases[i]], dtype=np.intp)

    def _part(self, word: str) -> slice:
        known = self._known[word]
        return slice(self._start[known], self._start[known + 1])

    def _having(self, word: str) -> Indices:
        return self._owner_M[self._part(word)]


def _phrase(own: Sequence[str]) -> str:
    """Words with marks around each, so that no part of a word is found."""
    return f" {' '.join(own)} "
