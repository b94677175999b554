"""An index brought up to date with its documents, and a source erased from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core import fingerprints
from ..core.errors import MissingError, nearest
from ..core.events import Progress, Sink, silent
from .bm25 import Bm25
from .chunks import Chunk, chunks
from .extract import Extractor
from .index import TOLD, Embedded, Index, Source
from .reading import read_or_tell
from .vectors import Embedder, Vectors
from .walk import Files, Unread

_PORTION = 256
"""Texts that are embedded between two words on how far it is."""


@dataclass(frozen=True)
class Changes:
    """The names of the sources that came, changed and went, and what could not be read, of unchanged ones too."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int
    unread: tuple[Unread, ...]
    unread_count: int
    embedded: int = 0
    """Chunks for which a vector was made."""

    @property
    def any(self) -> bool:
        """Whether the index differs from what it was."""
        return bool(self.added or self.changed or self.removed or self.embedded)


@dataclass(frozen=True)
class Embedding:
    """By what vectors are made, and how it is asked for."""

    embedder: Embedder
    asked: str


def updated(
    old: Index, files: Files, *, words: int, embedding: Embedding | None, extractor: Extractor, sink: Sink = silent
) -> tuple[Index, Changes]:
    """The index of `files`, and how it differs from `old`.

    A file is read where its hash or the size of chunks is another than that of `old`; else its chunks are taken over.
    Vectors are made of chunks that are new, or all where another embedder made those of `old`.
    """
    kept = _by_source(old) if old.words == words else {}
    taken = {chunk.id for found in kept.values() for chunk in found}
    sources: dict[str, Source] = {}
    made: list[Chunk] = []
    unread = list(files.unread)
    count = len(unread)
    for number, (name, path) in enumerate(files.paths.items(), start=1):
        sink(Progress(number, len(files.paths), "documents"))
        before = old.sources.get(name)
        source, found = _unchanged(path, before, kept.get(name, [])) if old.words == words else (None, [])
        if source is None:
            taken -= {chunk.id for chunk in kept.get(name, ())}
            source, found = _read(name, path, words, extractor, taken)
        unread += source.unread
        count += source.unread_rows
        if source.sha256:
            sources[name] = source
            made += found
    vectors, embedded = _vectors(old, made, embedding, sink)
    changes = _changes(old.sources, sources, old.words == words, unread, count, embedded)
    lost = bool(old.embedded) and not embedding
    if not changes.any and not lost:
        return old, changes
    return _indexed(made, sources, words, vectors), changes


def without(index: Index, source: str) -> Index:
    """The index as if the source had never been there. MissingError names those that are there."""
    if source not in index.sources:
        raise MissingError(f"no source '{source}' in the index", mend=_known(source, index.sources))
    places = [place for place, chunk in enumerate(index.chunks) if chunk.source != source]
    embedded = index.embedded and replace(index.embedded, vectors_ND=index.embedded.vectors_ND[places])
    left = {name: one for name, one in index.sources.items() if name != source}
    return _indexed([index.chunks[place] for place in places], left, index.words, embedded)


def _known(name: str, sources: Mapping[str, Source]) -> str:
    if len(sources) <= TOLD:
        return nearest(name, sources)
    return f"sources are files by their path below the documents; there are {len(sources)}, such as {min(sources)}"


def _indexed(made: list[Chunk], sources: dict[str, Source], words: int, embedded: Embedded | None) -> Index:
    return Index(tuple(made), Bm25.of(chunk.told() for chunk in made), sources, words, embedded)


def _by_source(index: Index) -> dict[str, list[Chunk]]:
    found: dict[str, list[Chunk]] = {name: [] for name in index.sources}
    for chunk in index.chunks:
        found[chunk.source].append(chunk)
    return found


def _unchanged(path: Path, before: Source | None, kept: list[Chunk]) -> tuple[Source | None, list[Chunk]]:
    """What is known of the file; (None, nothing) where it must be read."""
    try:
        same = before is not None and path.is_file() and fingerprints.of_file(path) == before.sha256
    except OSError:
        same = False
    return (before, kept) if same else (None, [])


def _read(
    name: str, path: Path, words: int, extractor: Extractor, taken: set[str]
) -> tuple[Source, list[Chunk]]:  # fmt: skip
    """The file read; without a hash where nothing of it could be, so that it is tried again."""
    try:
        sha256 = fingerprints.of_file(path) if path.is_file() else ""
    except OSError:
        sha256 = ""
    found = read_or_tell(path, name, extractor)
    made = list(chunks(found.documents, name, words, taken))
    if found.unread and not made:
        sha256 = ""
    return Source(sha256, len(made), found.unread[:TOLD], len(found.unread)), made


def _vectors(
    old: Index, made: list[Chunk], embedding: Embedding | None, sink: Sink
) -> tuple[Embedded | None, int]:  # fmt: skip
    """The vectors of all chunks, and how many of them are new."""
    if embedding is None:
        return None, 0
    name = embedding.embedder.name
    known: dict[str, Vectors] = {}
    if old.embedded and old.embedded.name == name:
        known = {chunk.id: vector for chunk, vector in zip(old.chunks, old.embedded.vectors_ND, strict=True)}
    new = [chunk for chunk in made if chunk.id not in known]
    for start in range(0, len(new), _PORTION):
        some = new[start : start + _PORTION]
        known |= {c.id: v for c, v in zip(some, embedding.embedder.embed([c.told() for c in some]), strict=True)}
        sink(Progress(start + len(some), len(new), "chunks embedded"))
    vectors = np.zeros((len(made), embedding.embedder.size), dtype=np.float32)
    for place, chunk in enumerate(made):
        vectors[place] = known[chunk.id]
    return Embedded(vectors, name, embedding.asked), len(new)


def _changes(
    old: Mapping[str, Source], new: Mapping[str, Source], same_words: bool, unread: list[Unread], count: int,
    embedded: int,
) -> Changes:  # fmt: skip
    both = [name for name in new if name in old]
    changed = tuple(name for name in both if not same_words or new[name].sha256 != old[name].sha256)
    return Changes(
        tuple(name for name in new if name not in old), changed, tuple(name for name in old if name not in new),
        len(both) - len(changed), tuple(unread), count, embedded,
    )  # fmt: skip
