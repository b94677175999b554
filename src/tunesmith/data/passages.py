"""Documents to passages: whole paragraphs up to a number of words. Knows no scores and no rows."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
"""A word between white space; kana and Chinese characters, which have none between words, each alone."""
_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n")


@dataclass(frozen=True)
class Span:
    """A stretch of a text, text[start:end], and how many lines are before it."""

    start: int
    end: int
    line: int


@dataclass(frozen=True)
class Document:
    """A text, where it begins, and the names by which a row may call it."""

    text: str
    path: str
    line: int = 1
    names: tuple[str, ...] = ()
    numbered_by_line: bool = True
    """Whether the lines of the text are lines of the file; a row's text has one line for all its passages."""
    pages: tuple[int, ...] = ()
    """Where in the text each page begins, of a document that has pages."""
    marked: bool = False
    """Whether a line that begins with `#` is a heading, as in Markdown."""
    title: str = ""
    """What a row calls its text, beside the text."""

    def place(self, span: Span, count: int) -> str:
        """`path:line` of the document's `count`th piece; of the second piece of a row on, `path:line#2`.

        `path:p3` on the third page, `path:p3-4` where it goes on to the fourth.
        """
        if self.pages:
            first, last = bisect_right(self.pages, span.start), bisect_left(self.pages, span.end)
            return f"{self.path}:p{first}" + (f"-{last}" if last > first else "")
        if self.numbered_by_line:
            return f"{self.path}:{self.line + span.line}"
        return f"{self.path}:{self.line}" + (f"#{count}" if count > 1 else "")


@dataclass(frozen=True)
class Passage:
    """A piece of a document."""

    text: str
    place: str
    """As `Document.place` says."""
    document: int


def passages(documents: Iterable[Document], words: int) -> list[Passage]:
    """Pieces of at most `words` words each, in order. A text that stands in several places is taken once."""
    found: dict[str, Passage] = {}
    for number, document in enumerate(documents):
        for count, span in enumerate(spans(document.text, words), start=1):
            text = tidy(document.text[span.start : span.end])
            found.setdefault(" ".join(text.split()).casefold(), Passage(text, document.place(span, count), number))
    return list(found.values())


def spans(text: str, words: int) -> Iterator[Span]:
    """Paragraphs joined as long as they fit; a longer one cut behind a sentence, or a word.

    All words of the text are in the spans, in their order; none begins or ends with white space, but for the
    indentation of a paragraph.
    """
    at = line = 0
    for start, end in _joined(text, words):
        line += text.count("\n", at, start)
        at = start
        yield Span(start, end, line)


def tidy(text: str) -> str:
    """Without white space at the ends of lines, and with one empty line between paragraphs."""
    kept = []
    for full, lines in groupby((line.rstrip() for line in text.split("\n")), key=bool):
        kept += list(lines) if full else [""]
    return "\n".join(kept)


def _joined(text: str, words: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each span."""
    begin, end, size = -1, 0, 0
    for first, last in _paragraphs(text):
        count = sum(1 for _ in _TOKEN.finditer(text, first, last))
        if begin >= 0 and size + count > words:
            yield begin, end
            begin, size = -1, 0
        if count > words:
            yield from _pieces(text, first, last, words)
            continue
        begin = first if begin < 0 else begin
        end, size = last, size + count
    if begin >= 0:
        yield begin, end


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each run of lines that hold something."""
    begin, end, at = -1, 0, 0
    for line in text.split("\n"):
        held = line.rstrip()
        if held:
            begin, end = (at if begin < 0 else begin), at + len(held)
        elif begin >= 0:
            yield begin, end
            begin = -1
        at += len(line) + 1
    if begin >= 0:
        yield begin, end


def _pieces(text: str, first: int, last: int, words: int) -> Iterator[tuple[int, int]]:
    """A long paragraph cut behind sentences and lines; a longer sentence behind words."""
    begin, size = first, 0
    ends = [match.end() for match in _END.finditer(text, first, last)]
    for start, end in pairwise([first, *ends, last]):
        tokens = [start, *[match.start() for match in _TOKEN.finditer(text, start, end)][1:]]
        if size and size + len(tokens) > words:
            yield from _stripped(text, begin, start)
            begin, size = start, 0
        while len(tokens) > words:
            yield from _stripped(text, begin, tokens[words])
            tokens = tokens[words:]
            begin = tokens[0]
        size += len(tokens)
    yield from _stripped(text, begin, last)


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The stretch without white space at its ends; nothing where it holds nothing else."""
    piece = text[start:end].rstrip()
    if piece:
        yield start + len(piece) - len(piece.lstrip()), start + len(piece)
