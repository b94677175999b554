"""Rows and documents to rows that teach a model to use the context it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import files
from ..core.errors import ContentError
from ..data import identity
from ..data.contexts import ContextPlan, Found, NoPassageError, Shelf, unanswerable, with_context
from ..data.formats import named
from ..data.hub import local
from ..data.lexical import Lexical
from ..data.load import Loaded, load
from ..data.passages import Document, passages
from ..retrieval.extract import Extractor
from ..retrieval.reading import read
from ..retrieval.walk import HTML, PDF, TEXT, walk
from .convert import as_json, packed, require_new


@dataclass(frozen=True)
class LeftOut:
    """A row that is not among the written ones."""

    place: str
    reason: str


@dataclass(frozen=True)
class WithContext:
    """What was written: `found` counts by how the right passage was found (`named`, `answer`, `words`)."""

    path: Path
    rows: int
    unanswerable: int
    found: dict[str, int]
    left_out: tuple[LeftOut, ...]
    documents: int
    passages: int
    root: str


def build(
    rows: Path, documents: Sequence[Path], out: Path, plan: ContextPlan, *, words: int, key: str | None = None
) -> WithContext:
    """Write a chat row for each row of which some passage is the right one; the others are listed.

    `words` is the most that a passage holds, `key` that of the rows' metadata which names the document or passage.
    MissingError, ContentError, ConflictError, UsageError.
    """
    require_new(out)
    loaded = load(local(rows))
    examples = loaded.require_supervised()
    read = [document for path in documents for document in _documents(path, key)]
    shelf = _shelf(read, words)
    left_out = [LeftOut(problem.place, problem.reason) for problem in loaded.problems]
    kept: list[tuple[int, Found]] = []
    for number, example in enumerate(examples):
        try:
            kept.append((number, shelf.find(example, plan, key)))
        except NoPassageError as error:
            left_out.append(LeftOut(example.origin, str(error)))
    if not kept:
        raise _nothing(loaded, left_out)
    held_back = unanswerable([found for _, found in kept], plan)
    chat = named("chat")
    digests = bytearray()

    def made() -> Iterator[bytes]:
        for place, (number, found) in enumerate(kept):
            row = with_context(examples[number], found, shelf, plan, answerable=place not in held_back)
            digests.extend(identity.digest(row))
            yield as_json(chat, row)

    files.make_folder(out.parent)
    files.write_pieces(out, packed(made(), out.name))
    ways: dict[str, int] = dict(sorted(Counter(found.how for _, found in kept).items()))
    return WithContext(
        out, len(kept), len(held_back), ways, tuple(left_out), len(read), len(shelf.passages),
        identity.root(identity.joined(digests)),
    )  # fmt: skip


def _nothing(loaded: Loaded, left_out: Sequence[LeftOut]) -> ContentError:
    first = left_out[0]
    return ContentError(
        f"for none of the {loaded.rows} rows of {loaded.path} a passage was found", where=first.place,
        why=first.reason, mend="give the documents that hold the answers, name them in the rows (--passage-key), or "
        "lower --floor",
    )  # fmt: skip


def _shelf(documents: Sequence[Document], words: int) -> Shelf:
    """ContentError with fewer than two passages: there would be no distractor."""
    found = passages(documents, words)
    if len(found) < 2:
        raise ContentError(
            f"the documents make {len(found)} passage{'s' * (len(found) != 1)}: there is no other to tell it from",
            mend="give more documents, or fewer words a passage (--words)",
        )
    names: dict[str, list[int]] = {}
    for number, passage in enumerate(found):
        for name in dict.fromkeys((*documents[passage.document].names, passage.place)):
            names.setdefault(name, []).append(number)
    return Shelf(found, Lexical([passage.text for passage in found]), names)


def _documents(path: Path, key: str | None) -> Iterator[Document]:
    """Those of one file, or of every text, Markdown, HTML and PDF file below a folder."""
    files = walk(path, (*TEXT, *HTML, *PDF), links=True)
    if not files.paths:
        raise ContentError(
            f"no text, Markdown, HTML or PDF file below {path}", mend="a JSONL file of texts is named by itself"
        )
    with Extractor() as extractor:
        for name, file in files.paths.items():
            found = read(file, name, extractor, key)
            if found.unread:
                first = found.unread[0]
                raise ContentError(
                    f"{len(found.unread)} of {len(found.documents) + len(found.unread)} texts of {file} cannot be read",
                    where=first.place, why=first.reason,
                    mend="documents are text, Markdown, HTML or PDF files, or JSON Lines with a 'text' each",
                )  # fmt: skip
            yield from found.documents
