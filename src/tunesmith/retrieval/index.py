"""Chunks with their rankings: a question to the chunks that answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .bm25 import Bm25
from .chunks import Chunk
from .fusion import fused
from .vectors import Embedder, Vectors, nearest
from .walk import Unread

DEPTH = 100
"""Places of each ranking that count when two are fused, or as many as are asked for."""


@dataclass(frozen=True)
class Source:
    """A file that was read."""

    sha256: str
    """Of its bytes: while it stays, the file is not read again."""
    chunks: int
    unread: tuple[Unread, ...] = ()
    """What of it is no document: the first `TOLD`."""
    unread_rows: int = 0
    """How many there are in all."""


TOLD = 20


@dataclass(frozen=True)
class Embedded:
    """The chunks' vectors, and by what they were made."""

    vectors_ND: Vectors
    name: str
    """`Embedder.name`."""
    asked: str
    """As it is asked for on the command line (`config.embedding`)."""


@dataclass(frozen=True)
class Hit:
    """A chunk that was found. Ranks begin with 1; None where the ranking has it not among its first."""

    chunk: Chunk
    score: float
    """BM25 without vectors, else of the fusion: to compare within one answer, and nowhere else."""
    by_words: int | None
    by_vectors: int | None


@dataclass(frozen=True)
class Index:
    """Chunks in the order of their sources' names, then of the documents."""

    chunks: tuple[Chunk, ...]
    bm25: Bm25
    sources: Mapping[str, Source] = field(default_factory=dict)
    words: int = 0
    """The most words of a chunk."""
    embedded: Embedded | None = None

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> Index:
        """An index in memory, by words alone."""
        kept = tuple(chunks)
        return cls(kept, Bm25.of(chunk.told() for chunk in kept))

    def ask(self, question: str, k: int, embedder: Embedder | None = None) -> list[Hit]:
        """At most `k` chunks, the best first: by words, and with the embedder that made the vectors by these too.

        Without vectors only chunks that share a word with the question.
        """
        depth = max(DEPTH, k)
        scores = self.bm25.scores(question)
        by_words = self.bm25.ranking(scores, depth)
        if not embedder or not self.embedded or not self.chunks:
            return [Hit(self.chunks[i], float(scores[i]), rank, None) for rank, i in enumerate(by_words[:k], start=1)]
        by_vectors = nearest(self.embedded.vectors_ND, embedder.embed([question])[0], depth)
        words = {place: rank for rank, place in enumerate(by_words, start=1)}
        vectors = {place: rank for rank, place in enumerate(by_vectors, start=1)}
        return [
            Hit(self.chunks[i], score, words.get(i), vectors.get(i)) for i, score in fused((by_words, by_vectors))[:k]
        ]
