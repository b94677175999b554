"""Documents to chunks: each with an id by which an answer can cite it, and where it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..data.headings import Section, sections, shortened
from ..data.passages import Document, Span, spans

WORDS = 150
"""The most words of a chunk, unless told."""
_ID_BYTES = 5
"""Ten hexadecimal digits: among 100,000 chunks two are alike once in two hundred indexes, and then one gets another."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a document: text[start:end] of it, in characters."""

    id: str
    """Ten hexadecimal digits, made of source, heading and text: it stays while these stay."""
    source: str
    """The file's name among the documents; all that came of it is erased by this name."""
    document: str
    """The source, or of a file of rows `source:line`."""
    place: str
    """Where in the file it begins: as `Document.place` says."""
    heading: str
    """`Guide > Install`; "" where there is none."""
    start: int
    end: int
    text: str
    names: tuple[str, ...] = ()
    """Other names of the document."""

    def told(self) -> str:
        """Heading and text: what is looked for."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


def chunks(documents: Sequence[Document], source: str, words: int, taken: set[str]) -> Iterator[Chunk]:
    """The chunks of a source's documents, in order, of at most `words` words each, none across two headings.

    `taken` are the ids of other chunks; those made here are added.
    """
    for document in documents:
        own = source if document.numbered_by_line or document.pages or document.marked else f"{source}:{document.line}"
        names = tuple(name for name in dict.fromkeys(document.names) if name != own)
        count = line = at = 0
        for section in _sections(document):
            line += document.text.count("\n", at, section.start)
            at = section.start
            for span in spans(document.text[section.start : section.end], words):
                count += 1
                whole = Span(section.start + span.start, section.start + span.end, line + span.line)
                text = document.text[whole.start : whole.end]
                yield Chunk(
                    _id(source, section.heading, text, taken), source, own, document.place(whole, count),
                    section.heading, whole.start, whole.end, text, names,
                )  # fmt: skip


def _sections(document: Document) -> Iterator[Section]:
    if document.marked:
        yield from sections(document.text)
    else:
        yield Section(shortened(document.title), 0, len(document.text))


def _id(source: str, heading: str, text: str, taken: set[str]) -> str:
    """Not among those taken, and then it is."""
    content = "\0".join((source, heading, text)).encode("utf-8", "surrogatepass")
    count = 0
    while True:
        found = hashlib.blake2b(content, digest_size=_ID_BYTES, salt=count.to_bytes(8, "little")).hexdigest()
        if found not in taken:
            taken.add(found)
            return found
        count += 1
