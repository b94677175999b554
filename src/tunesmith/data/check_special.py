"""Rows whose contents spell a special token of the base; what keeps it from becoming one is `escape`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .audit import Finding
from .look import Places, Row
from .template import Tokenizer, escape_for

SHOWN = 5


class SpecialTokens:
    """Rows that spell special tokens, and which ones."""

    def __init__(self, tokenizer: Tokenizer):
        self._escape = escape_for(tokenizer)
        self._places = Places()
        self._spelled: Counter[str] = Counter()

    def see(self, portion: Sequence[Row]) -> None:
        """Look through every text that a template may show."""
        for row in portion:
            spelled = self._escape.spelled(row.example.messages, row.example.tools)
            if spelled:
                self._places.add(row.origin)
                self._spelled.update(spelled)

    def findings(self) -> Iterator[Finding]:
        """One finding for all of them."""
        if self._spelled:
            most = ", ".join(f"{token} ({rows})" for token, rows in self._spelled.most_common(SHOWN))
            yield Finding(
                "special_token_in_text", "warn", f"text spells a special token of the base: {most}; it is escaped: "
                "trained on and served as plain text",
                "take it out, unless the text is about such tokens: other servers may take it for the token itself",
                self._places.at(range(len(self._places))),
            )  # fmt: skip
