"""Documents to passages: whole paragraphs up to a number of words. Knows no scores and no rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
"""A word between white space; kana and Chinese characters, which have none between words, each alone."""
_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n")


@dataclass(frozen=True)
class Document:
    """A text, where it begins, and the names by which a row may call it."""

    text: str
    path: str
    line: int = 1
    names: tuple[str, ...] = ()
    numbered_by_line: bool = True
    """Whether the lines of the text are lines of the file; a row's text has one line for all its passages."""


@dataclass(frozen=True)
class Passage:
    """A piece of a document."""

    text: str
    place: str
    """`path:line`; of the second passage of a row on, `path:line#2`."""
    document: int


def passages(documents: Iterable[Document], words: int) -> list[Passage]:
    """Pieces of at most `words` words each, in order. A text that stands in several places is taken once."""
    found: dict[str, Passage] = {}
    for number, document in enumerate(documents):
        for count, (line, text) in enumerate(cut(document.text, words), start=1):
            at = document.line + line if document.numbered_by_line else document.line
            place = f"{document.path}:{at}" + ("" if document.numbered_by_line or count == 1 else f"#{count}")
            found.setdefault(" ".join(text.split()).casefold(), Passage(text, place, number))
    return list(found.values())


def cut(text: str, words: int) -> Iterator[tuple[int, str]]:
    """(lines before it, piece): paragraphs joined as long as they fit; a longer one cut behind a sentence, or a word.

    All words of the text are in the pieces, in their order.
    """
    kept: list[str] = []
    first = size = 0
    for line, paragraph in _paragraphs(text):
        count = len(_TOKEN.findall(paragraph))
        if kept and size + count > words:
            yield first, "\n\n".join(kept)
            kept, size = [], 0
        if count > words:
            yield from ((line, piece) for piece in _pieces(paragraph, words))
            continue
        if not kept:
            first = line
        kept.append(paragraph)
        size += count
    if kept:
        yield first, "\n\n".join(kept)


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """(lines before it, paragraph), without the empty lines between them."""
    lines: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""]):
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            yield number - len(lines), "\n".join(lines)
            lines = []


def _pieces(paragraph: str, words: int) -> Iterator[str]:
    """A long paragraph cut behind sentences and lines; a longer sentence behind words. White space inside stays."""
    kept, size = "", 0
    ends = [match.end() for match in _END.finditer(paragraph)]
    for start, end in pairwise([0, *ends, len(paragraph)]):
        tokens = [start, *[match.start() for match in _TOKEN.finditer(paragraph, start, end)][1:]]
        if kept and size + len(tokens) > words:
            yield kept.strip()
            kept, size = "", 0
        while len(tokens) > words:
            yield paragraph[tokens[0] : tokens[words]].strip()
            tokens = tokens[words:]
        kept, size = kept + paragraph[tokens[0] : end], size + len(tokens)
    if kept.strip():
        yield kept.strip()
