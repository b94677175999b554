"""A file to documents, and what of it cannot be read and why. Every file has limits of size, memory and time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..core.errors import ContentError, TunesmithError
from ..core.messages import Text
from ..data.load import load
from ..data.passages import Document
from ..data.places import require_file
from ..data.raw import MIB, megabytes
from .extract import Extractor
from .walk import HTML, MARKDOWN, PDF, TEXT, Unread, spelled

LARGEST = 256 * MIB
"""Bytes of a file of text or rows."""
LARGEST_PAGES = 64 * MIB
"""Bytes of an HTML or PDF file."""
NAMES = ("id", "title", "name", "path")
"""Keys of a document's row by whose values other rows may call it."""
_LONGEST_NAME = 500
"""Characters of what is still a name; every chunk of the document keeps its names."""


@dataclass(frozen=True)
class Read:
    """What came out of a file: its documents, in order, and what of it is none."""

    documents: tuple[Document, ...]
    unread: tuple[Unread, ...] = ()


def read(path: Path, name: str, extractor: Extractor, key: str | None = None) -> Read:
    """The documents of one file: one, or one a row. `name` is the file's among the others.

    `key` is one more key of a row by whose value other rows may call it. MissingError, ContentError for a file of
    which nothing can be read.
    """
    require_file(path)
    suffix = path.suffix.lower()
    pages = suffix in (*HTML, *PDF)
    _require_size(path, LARGEST_PAGES if pages else LARGEST)
    if pages:
        return Read(tuple(_extracted(path, name, extractor)))
    return _rows(path, name, key, whole=suffix in TEXT, marked=suffix in MARKDOWN)


def read_or_tell(path: Path, name: str, extractor: Extractor) -> Read:
    """As `read`, with the reason of a file of which nothing can be read among what is no document."""
    try:
        return read(path, name, extractor)
    except TunesmithError as error:
        reason = "; ".join(part for part in (error.what, error.why, error.mend) if part)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    return Read((), (Unread(name, spelled(reason)),))


def _require_size(path: Path, most: int) -> None:
    size = path.stat().st_size
    if not size:
        raise ContentError(f"{path} is empty", mend="write something there, or take it out of the documents")
    if size > most:
        raise ContentError(
            f"{path} has {megabytes(size)}", why=f"at most {megabytes(most)} of one document are read",
            mend="cut it into several files",
        )  # fmt: skip


def _extracted(path: Path, name: str, extractor: Extractor) -> Iterator[Document]:
    found = extractor(path)
    if found.reason:
        raise ContentError(f"{path} cannot be read", why=found.reason, mend="mend it, or take it out of the documents")
    if found.text.strip():
        yield Document(
            found.text, name, names=_names(name), numbered_by_line=False, pages=found.pages, marked=not found.pages
        )  # fmt: skip


def _rows(path: Path, name: str, key: str | None, *, whole: bool, marked: bool) -> Read:
    loaded = load(path, format="text")
    documents: list[Document] = []
    unread = [Unread(f"{name}:{problem.line}", problem.reason) for problem in loaded.problems]
    for record in (row for row in loaded.records if isinstance(row, Text)):
        line = int(record.origin.rpartition(":")[2])
        if record.messages:
            unread.append(Unread(f"{name}:{line}", "a conversation, where documents are texts"))
            continue
        told = {k: str(record.metadata[k]) for k in (key, *NAMES) if k and record.metadata.get(k) is not None}
        names = (*(_names(name) if whole else ()), *(value for value in told.values() if len(value) <= _LONGEST_NAME))
        documents.append(
            Document(record.text, name, line, names, numbered_by_line=whole, marked=marked, title=told.get("title", ""))
        )
    return Read(tuple(_joined(documents) if whole else documents), tuple(unread))


def _joined(pieces: list[Document]) -> Iterator[Document]:
    """A long text is read in pieces: one document of those that follow each other."""
    while pieces:
        first, end, count = pieces[0], pieces[0].line, 0
        while count < len(pieces) and pieces[count].line == end:
            end += pieces[count].text.count("\n")
            count += 1
        yield replace(first, text="".join(piece.text for piece in pieces[:count]))
        pieces = pieces[count:]


def _names(name: str) -> tuple[str, ...]:
    """The path, the file's name, and that without its ending."""
    file = PurePosixPath(name)
    return tuple(dict.fromkeys((name, file.name, file.stem)))
