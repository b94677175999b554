"""An answer's tokens to text as they come: whole characters, and no text beyond a stop. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..data.template import special_tokens


class Speller:
    """The text of growing token ids. All that it gives, put together, is what the tokenizer makes of all the ids, where
    those are text: bytes that are none may be shown as other replacement characters."""

    def __init__(self, tokenizer: Any, shown: Collection[int] = ()):
        """Special tokens are left out of the text, but for those in `shown`."""
        self._tokenizer = tokenizer
        self._hidden = set(special_tokens(tokenizer)).difference(shown) if shown else set()
        self._skip = not shown
        self._ids: list[int] = []
        self._from = self._read = self._given = 0
        """Text is made of the ids from `_from` on; those before `_read` have been given."""

    def add(self, token: int) -> str:
        """The new text; "" while a character is not whole."""
        if token in self._hidden:
            return ""
        self._ids.append(token)
        # Some ids before the new ones are decoded with them: what a token means may depend on its neighbour.
        before, now = self._text(self._from, self._read), self._text(self._from)
        if len(now) <= len(before) or now.endswith("\ufffd"):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return self._give(now[len(before) :])

    def rest(self) -> str:
        """What was held back, at the end: an answer may end in half a character."""
        return self._give(self._text(0)[self._given :])

    def _give(self, text: str) -> str:
        self._given += len(text)
        return text

    def _text(self, start: int, end: int | None = None) -> str:
        return str(self._tokenizer.decode(self._ids[start:end], skip_special_tokens=self._skip))


class StopText:
    """Lets text through up to the first stop text, and holds back what may be the beginning of one.

    First is the one that is complete first, whatever the pieces the text comes in; of two, the longer.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found = False
        """Whether a stop text came; nothing is let through from then on."""

    def add(self, text: str) -> str:
        """What can be shown now."""
        if self.found or not self._stops:
            return "" if self.found else text
        self._held += text
        places = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            return self._held[: min(places)[1]]
        keep = max(held_back(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def rest(self) -> str:
        """What was held back, at the end."""
        return "" if self.found else self._held


def held_back(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)
