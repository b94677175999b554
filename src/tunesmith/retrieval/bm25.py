"""Chunks by the words they share with a question: BM25 through the bm25s library, which scores each word beforehand.

The formula and its constants are those of `data/lexical`, but for a factor k + 1 that all scores have in common: Lù
2024, "BM25S: Orders of magnitude faster lexical search via eager sparse scoring", arXiv 2407.03618, section 2.

Shapes: N chunks, W different words, M pairs of a chunk and a word in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import bm25s
import numpy as np
from numpy.typing import NDArray

from ..data.lexical import B, Indices, K, best, words

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Arrays:
    """What the index consists of: the words in the order of their numbers, and a sparse [N, W] by columns."""

    words: list[str]
    data_M: NDArray[np.float32]
    indices_M: NDArray[np.int32]
    indptr_W: NDArray[np.int64]
    """int64 [W + 1]: where the chunks of each word begin."""

    def problem(self, count: int) -> str | None:
        """Why these cannot be an index of `count` chunks; None when they can."""
        starts, pairs = self.indptr_W, len(self.data_M)
        if any(array.ndim != 1 for array in (self.data_M, self.indices_M, starts)):
            return "the arrays have other shapes than those of an index"
        kinds = (self.data_M.dtype, self.indices_M.dtype, starts.dtype)
        if kinds != (np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.int64)):
            return "the arrays are of other types than those of an index"
        if len(starts) != len(self.words) + 1 or len(self.indices_M) != pairs:
            return "the arrays do not fit each other"
        if starts[0] != 0 or starts[-1] != pairs or np.any(np.diff(starts) < 0):
            return "the words' places are out of order"
        if pairs and (self.indices_M.min() < 0 or self.indices_M.max() >= count):
            return "a word stands in a chunk that is not there"
        return None


class Bm25:
    """An index of texts, told by their words."""

    def __init__(self, arrays: Arrays, count: int):
        self.arrays = arrays
        self._count = count
        self._known = {word: number for number, word in enumerate(arrays.words)}
        self._bm25 = _bm25s()
        self._bm25.scores = {
            "data": arrays.data_M, "indices": arrays.indices_M, "indptr": arrays.indptr_W, "num_docs": count,
        }  # fmt: skip
        self._bm25.nonoccurrence_array = None

    @classmethod
    def of(cls, texts: Iterable[str]) -> Bm25:
        """The index of texts, in time and memory that grow with their words."""
        known: dict[str, int] = {}
        ids = [[known.setdefault(word, len(known)) for word in words(text)] for text in texts]
        if not known:
            nothing = Arrays([], np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64))
            return cls(nothing, len(ids))
        made = _bm25s()
        made.index((ids, known), create_empty_token=False, show_progress=False)
        found = made.scores
        data, indices = found["data"].astype(np.float32), found["indices"].astype(np.int32)
        return cls(Arrays(list(known), data, indices, found["indptr"].astype(np.int64)), len(ids))

    def scores(self, question: str) -> Scores:
        """Of every text, float32 [N]; 0 where it shares no word. A word that is asked twice counts once."""
        asked = [self._known[word] for word in dict.fromkeys(words(question)) if word in self._known]
        if not asked:
            return np.zeros(self._count, dtype=np.float32)
        found: Scores = self._bm25.get_scores_from_ids(asked)
        return found

    def ranking(self, scores: Scores, count: int) -> list[int]:
        """The texts that share a word, at most `count`, the best first."""
        places: Indices = np.flatnonzero(scores > 0)
        return best(scores, places, count)


def _bm25s() -> bm25s.BM25:
    return bm25s.BM25(k1=K, b=B, method="lucene", backend="numpy", csc_backend="numpy")
