"""Chunks to a prompt, and what an answer cites of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..data.contexts import UNSAID, asked
from .chunks import Chunk

Marks = Literal["ids", "numbers"]
"""What stands before each passage: the chunk's id, which the answer is asked to cite; or 1, 2, ... and no such wish.
The second is the prompt of rows made by `data with-context`, for a model that learned from them."""
_CITED = re.compile(r"\[([^\[\]\n]{1,400})\]")
_BETWEEN = re.compile(r"[\s,;]+")
_ID = re.compile(r"[0-9a-f]{10}")
_NUMBER = re.compile(r"\d{1,3}")


@dataclass(frozen=True)
class Citations:
    """What stands in square brackets in an answer."""

    chunks: tuple[Chunk, ...]
    """Those that were shown, each once, in the order of the answer."""
    unknown: tuple[str, ...]
    """Marks of no chunk that was shown: made up."""


@dataclass(frozen=True)
class Context:
    """Passages that a model is shown, each with its mark."""

    chunks: tuple[Chunk, ...]
    marks: Marks = "ids"

    @classmethod
    def of(cls, chunks: Iterable[Chunk], marks: Marks = "ids", words: int | None = None) -> Context:
        """The first chunks, as many as hold at most `words` words together, and one in any case.

        A text that several files have is shown once.
        """
        kept: dict[str, Chunk] = {}
        size = 0
        for chunk in chunks:
            text = chunk.text.casefold().split()
            if (key := " ".join(text)) in kept:
                continue
            size += len(text)
            if kept and words is not None and size > words:
                break
            kept[key] = chunk
        return cls(tuple(kept.values()), marks)

    def prompt(self, question: str, unsaid: str = UNSAID) -> str:
        """The user's turn: answer from these passages alone, or say `unsaid`."""
        ids = self.marks == "ids"
        told = ((mark, chunk.told() if ids else chunk.text) for mark, chunk in self._marked().items())
        return asked(told, question, unsaid, cite=ids)

    def cited(self, answer: str) -> Citations:
        """What an answer cites: `[mark]`, or several in one pair of brackets with commas between them."""
        known, shape = self._marked(), _ID if self.marks == "ids" else _NUMBER
        found: dict[str, Chunk] = {}
        unknown: dict[str, None] = {}
        for brackets in _CITED.finditer(answer):
            for mark in _BETWEEN.split(brackets[1].strip()):
                if mark in known:
                    found[mark] = known[mark]
                elif shape.fullmatch(mark):
                    unknown[mark] = None
        return Citations(tuple(found.values()), tuple(unknown))

    def without_marks(self, answer: str) -> str:
        """The answer without what cites: nobody claims a mark."""

        def plain(brackets: re.Match[str]) -> str:
            marks = _BETWEEN.split(brackets[1].strip())
            shape = _ID if self.marks == "ids" else _NUMBER
            return " " if all(mark in self._marked() or shape.fullmatch(mark) for mark in marks) else brackets[0]

        return _CITED.sub(plain, answer)

    def _marked(self) -> dict[str, Chunk]:
        return {chunk.id if self.marks == "ids" else str(n): chunk for n, chunk in enumerate(self.chunks, start=1)}
