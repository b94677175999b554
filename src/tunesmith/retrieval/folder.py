"""An index on disk: a manifest, and one folder of data that it names with the size and SHA-256 of each file.

    index.json                what is in it, written last and in one rename: the old index is there until the new is
    data-<8 hex>/chunks.jsonl, words.json, bm25-{data,indices,indptr}.npy, vectors.npy (with an embedder)

Arrays are plain .npy, the rest JSON; nothing is pickled and nothing that is pickled is loaded. After each change the
data of before is removed, and an error says so where that cannot be: a deleted source's text shall be nowhere.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from .. import __version__
from ..core import files, fingerprints
from ..core.errors import ConflictError, ContentError, MissingError, OutputError
from .bm25 import Arrays, Bm25
from .chunks import Chunk
from .index import Embedded, Index, Source
from .walk import Unread

FORMAT = 1
"""Another number for whatever makes an index of before unreadable, or its scores others than those of one made anew."""
MANIFEST = "index.json"
_DATA = re.compile(r"data-[0-9a-f]{8}")
_ARRAYS = ("data", "indices", "indptr")


class UnusableIndexError(ContentError):
    """An index that is damaged."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int
    sha256: str


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    chunks: int
    unread: tuple[tuple[str, str], ...] = ()
    unread_rows: int = 0


class _Embedded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    asked: str


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    tunesmith_index: int
    made_by: str
    words: int
    chunks: int
    embedded: _Embedded | None
    data: str
    files: dict[str, _File]
    sources: dict[str, _Source]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made where it is not there, for the block alone; ConflictError while another process changes it.

    ConflictError too for a folder that holds anything but an index. Empty and made here, it goes when the block fails.
    """
    made = not folder.exists()
    files.make_folder(folder)
    try:
        with files.alone(folder, busy=f"another process is changing {folder}"):
            _require_ours(folder)
            yield
    except BaseException:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _require_ours(folder: Path) -> None:
    rest = set(folder.iterdir()) - set(files.leftovers(folder))
    foreign = sorted(entry.name for entry in rest if entry.name != MANIFEST and not _DATA.fullmatch(entry.name))
    if foreign:
        raise ConflictError(
            f"{folder} is there already and holds something else than an index: {foreign[0]}",
            mend="name a new folder, or an index to bring it up to date",
        )


def write(folder: Path, index: Index) -> None:
    """Put the index in the place of the one that is there. Inside `locked`. OutputError."""
    data = folder / f"data-{secrets.token_hex(4)}"
    try:
        files.make_folder(data)
        written = {name: _written(data / name, content) for name, content in _contents(index)}
        files.write_bytes(folder / MANIFEST, orjson.dumps(_manifest(index, data.name, written), option=_INDENTED))
    except BaseException:
        files.discard(data)
        raise
    clean(folder)


_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def clean(folder: Path) -> None:
    """Remove what an index of before left, or one that was killed. Inside `locked`. OutputError where that fails."""
    current = _read_manifest(folder, _manifest_bytes(folder)).data
    for old in _old(folder, current):
        files.discard(old)
    left = _old(folder, current)
    if left:
        raise OutputError(
            f"cannot remove {left[0]}", why="it holds texts of the index as it was before",
            mend=f"remove it by hand: rm -r '{left[0]}'",
        )  # fmt: skip


def _old(folder: Path, current: str) -> list[Path]:
    found = [entry for entry in folder.iterdir() if _DATA.fullmatch(entry.name) and entry.name != current]
    return [*found, *files.leftovers(folder), *files.leftovers(folder / current)]


def _written(path: Path, content: bytes) -> _File:
    files.write_bytes(path, content)
    return _File(bytes=len(content), sha256=fingerprints.of_bytes(content))


def _contents(index: Index) -> Iterator[tuple[str, bytes]]:
    yield "chunks.jsonl", b"".join(orjson.dumps(chunk, option=orjson.OPT_APPEND_NEWLINE) for chunk in index.chunks)
    yield "words.json", orjson.dumps(index.bm25.arrays.words)
    arrays = index.bm25.arrays
    parts: tuple[NDArray[Any], ...] = (arrays.data_M, arrays.indices_M, arrays.indptr_W)
    for name, array in zip(_ARRAYS, parts, strict=True):
        yield f"bm25-{name}.npy", _npy(array)
    if index.embedded:
        yield "vectors.npy", _npy(index.embedded.vectors_ND)


def _npy(array: NDArray[Any]) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=False)
    return made.getvalue()


def _manifest(index: Index, data: str, written: dict[str, _File]) -> dict[str, Any]:
    embedded = index.embedded
    return _Manifest(
        tunesmith_index=FORMAT, made_by=__version__, words=index.words, chunks=len(index.chunks),
        embedded=_Embedded(name=embedded.name, asked=embedded.asked) if embedded else None, data=data, files=written,
        sources={name: _told(source) for name, source in index.sources.items()},
    ).model_dump()  # fmt: skip


def _told(source: Source) -> _Source:
    unread = tuple((one.place, one.reason) for one in source.unread)
    return _Source(sha256=source.sha256, chunks=source.chunks, unread=unread, unread_rows=source.unread_rows)


def load(folder: Path) -> Index:
    """The index in a folder, every file of it checked.

    MissingError where there is none, ContentError for one of another version, UnusableIndexError for a damaged one.
    """
    while True:
        told = _manifest_bytes(folder)
        try:
            return _loaded(folder, _read_manifest(folder, told))
        except UnusableIndexError:
            if _manifest_bytes(folder) == told:  # else it was replaced while it was read
                raise


def is_index(folder: Path) -> bool:
    """Whether there is an index, be it a damaged one."""
    return (folder / MANIFEST).is_file()


def _manifest_bytes(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise MissingError(
            f"{folder} is no index" if folder.is_dir() else f"no such folder: {folder}",
            mend="make one: tunesmith index DOCS --out DIR",
        ) from None


def _read_manifest(folder: Path, content: bytes) -> _Manifest:
    try:
        told = orjson.loads(content)
        number = told["tunesmith_index"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ContentError(
            f"{folder / MANIFEST} is damaged, or not of an index", why=f"{type(error).__name__}: {error}",
            mend=f"remove {folder}, then index the documents again",
        ) from None  # fmt: skip
    if number != FORMAT:
        raise ContentError(
            f"{folder} is an index in format {number}, this is tunesmith {__version__} with format {FORMAT}",
            why=f"it was made by tunesmith {told.get('made_by', 'of an unknown version')}",
            mend=f"remove {folder}, or name a new folder, then index the documents again",
        )
    try:
        return _Manifest.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise _damaged(folder, f"{MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _damaged(folder: Path, why: str) -> UnusableIndexError:
    return UnusableIndexError(
        f"the index {folder} is damaged", why=why,
        mend=f"make it anew from the documents: tunesmith index DOCS --out {folder}",
    )  # fmt: skip


def _loaded(folder: Path, told: _Manifest) -> Index:
    if not _DATA.fullmatch(told.data):
        raise _damaged(folder, f"{MANIFEST} names no folder of data")
    held = {name: _checked(folder, told, name) for name in ("chunks.jsonl", "words.json", *map(_file, _ARRAYS))}
    chunks = _chunks(folder, held["chunks.jsonl"])
    counts = {name: source.chunks for name, source in told.sources.items()}
    found = dict.fromkeys(counts, 0)
    for chunk in chunks:
        found[chunk.source] = found.get(chunk.source, 0) + 1
    if found != counts or len(chunks) != told.chunks:
        raise _damaged(folder, "the chunks are not those of its sources")
    arrays = Arrays(_words(folder, held["words.json"]), *(_array(folder, n, held[_file(n)]) for n in _ARRAYS))
    if problem := arrays.problem(len(chunks)):
        raise _damaged(folder, problem)
    return Index(
        chunks, Bm25(arrays, len(chunks)), {name: _source(one) for name, one in told.sources.items()}, told.words,
        _vectors(folder, told),
    )  # fmt: skip


def _file(array: str) -> str:
    return f"bm25-{array}.npy"


def _source(told: _Source) -> Source:
    unread = tuple(Unread(place, reason) for place, reason in told.unread)
    return Source(told.sha256, told.chunks, unread, told.unread_rows)


def _checked(folder: Path, told: _Manifest, name: str) -> bytes:
    """A file's content, as it was written."""
    expected = told.files.get(name)
    try:
        content = (folder / told.data / name).read_bytes()
    except OSError as error:
        raise _damaged(folder, f"{name} cannot be read: {error.strerror}") from None
    if expected is None or (len(content), fingerprints.of_bytes(content)) != (expected.bytes, expected.sha256):
        raise _damaged(folder, f"{name} is not as it was written")
    return content


def _chunks(folder: Path, content: bytes) -> tuple[Chunk, ...]:
    try:
        rows = [orjson.loads(line) for line in content.splitlines()]
        return tuple(Chunk(**{**row, "names": tuple(row["names"])}) for row in rows)
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise _damaged(folder, f"chunks.jsonl: {error}") from None


def _words(folder: Path, content: bytes) -> list[str]:
    try:
        words = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _damaged(folder, f"words.json: {error}") from None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _damaged(folder, "words.json is no list of words")
    return words


def _array(folder: Path, name: str, content: bytes) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _damaged(folder, f"{name} is no plain array: {error}") from None
    return found


def _vectors(folder: Path, told: _Manifest) -> Embedded | None:
    if not told.embedded:
        return None
    found = _array(folder, "vectors", _checked(folder, told, "vectors.npy"))
    if found.ndim != 2 or len(found) != told.chunks or found.dtype != np.float32:
        raise _damaged(folder, "the vectors do not fit the chunks")
    return Embedded(found, told.embedded.name, told.embedded.asked)


def summary(index: Index) -> Mapping[str, Any]:
    """What is in the index, as a JSON value."""
    return {
        "sources": len(index.sources), "chunks": len(index.chunks), "words_a_chunk": index.words,
        "embedder": index.embedded.asked if index.embedded else None,
    }  # fmt: skip
