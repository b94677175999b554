"""The form in which a national number is told: its shapes, its check, and the words that announce it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .hits import END, LONG, Hit, compact, labelled_otherwise, matches, near


@dataclass(frozen=True)
class NumberId:
    """A number with a rule.

    `proper` is a shape that speaks for itself (usual punctuation, or a strong check): taken unless the words before
    call it an order number or the like. `bare` is a shape that many other numbers have, of which one in ten or so
    passes the check by chance: taken only with one of `words` near.
    """

    kind: str
    proper: re.Pattern[str] | None
    bare: re.Pattern[str] | None
    valid: Callable[[str], bool]
    words: re.Pattern[str]
    needs: int = LONG

    def find(self, text: str) -> Iterator[Hit]:
        """Finds of both shapes."""
        for pattern, alone in ((self.proper, True), (self.bare, False)):
            for match in matches(pattern, text) if pattern else ():
                if not self.valid(compact(match[0])):
                    continue
                announced = near(self.words, text, *match.span())
                if announced or (alone and not labelled_otherwise(text, match.start())):
                    yield Hit(self.kind, *match.span())


def shape(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern of ASCII digits that must not run on into a longer word or number."""
    return re.compile(f"(?:{pattern}){END}", flags)
