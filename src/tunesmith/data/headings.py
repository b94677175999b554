"""The sections of a text in Markdown: under which headings each of its parts stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 120
"""Characters of a heading that are kept: it is repeated with each part of its section."""
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-+)[ \t]*$")
_SEPARATOR = " > "


@dataclass(frozen=True)
class Section:
    """text[start:end], with its own heading, and the headings above it: `Guide > Install`."""

    heading: str
    start: int
    end: int


def sections(text: str) -> Iterator[Section]:
    """The whole text in order, cut before each heading; a heading with nothing below it goes with the next section."""
    above: list[tuple[int, str]] = []
    begin = body = 0
    for start, end, level, title in _headings(text):
        if text[body:start].strip():
            yield Section(_path(above), begin, start)
            begin = start
        above = [*((depth, name) for depth, name in above if depth < level), (level, title)]
        body = end
    if begin < len(text):
        yield Section(_path(above), begin, len(text))


def _path(above: list[tuple[int, str]]) -> str:
    return _SEPARATOR.join(title for _, title in above if title)


def _headings(text: str) -> Iterator[tuple[int, int, int, str]]:
    """(start, end, level, title) of each heading: behind `#`, or alone above a line of `=` or `-`. Code has none."""
    fence, before, alone = "", "", False
    at = 0
    for line in text.split("\n"):
        end = min(at + len(line) + 1, len(text))
        mark, heading, under = _FENCE.match(line), _HEADING.match(line), _UNDERLINE.match(line)
        left = ""
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and not line[mark.end() :].strip() else fence
        elif mark:
            fence = mark[1]
        elif heading:
            yield at, end, len(heading[1]), shortened((heading[2] or "").rstrip().rstrip("#"))
        elif under and alone:
            yield at - len(before) - 1, end, 1 if under[1] else 2, shortened(before)
        else:
            left = line
        alone = bool(left.strip()) and not before.strip()
        before, at = left, end


def shortened(text: str) -> str:
    """A heading in one line, cut behind LONGEST characters."""
    title = " ".join(text.split())
    return title if len(title) <= LONGEST else title[: LONGEST - 1] + "…"
