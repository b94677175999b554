"""How much of an answer stands in what it cites: a share of its words, not a judgement of its sense.

A high share does not prove an answer (a "not" is one word of many), a low one shows that it is from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bm25s import stopwords

from ..data.contexts import UNSAID
from ..data.lexical import words
from .chunks import Chunk
from .context import Context

STOPWORDS: dict[str, frozenset[str]] = {
    language: frozenset(word for listed in found for word in words(listed))
    for language, found in (
        ("en", stopwords.STOPWORDS_EN_PLUS), ("de", stopwords.STOPWORDS_GERMAN), ("nl", stopwords.STOPWORDS_DUTCH),
        ("fr", stopwords.STOPWORDS_FRENCH), ("es", stopwords.STOPWORDS_SPANISH), ("it", stopwords.STOPWORDS_ITALIAN),
        ("pt", stopwords.STOPWORDS_PORTUGUESE), ("ru", stopwords.STOPWORDS_RUSSIAN), ("da", stopwords.STOPWORDS_DANISH),
        ("sv", stopwords.STOPWORDS_SWEDISH), ("no", stopwords.STOPWORDS_NORWEGIAN), ("tr", stopwords.STOPWORDS_TURKISH),
        ("zh", stopwords.STOPWORDS_CHINESE),
    )
}  # fmt: skip
"""By language: words that say nothing of their own."""
_THOUSANDS = r"[1-9]\d{0,2}(?:[.,'\u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?"
_NUMBER = re.compile(rf"(?<!\w)(?:{_THOUSANDS}|\d+(?:[.,]\d+)?)(?!\w)")
_GROUPED = re.compile(_THOUSANDS)
_MARK = re.compile(r"[.,'\u00a0\u202f](?=\d{3})")


@dataclass(frozen=True)
class Faithfulness:
    """What of an answer is found where."""

    claimed: int
    """Content words and numbers of the answer, each once."""
    in_cited: int
    """Those that stand in the chunks that the answer cites."""
    in_context: int
    """Those that stand in the chunks that were shown, cited or not."""
    missing: tuple[str, ...]
    """Those that stand in none of the chunks that were shown, in the answer's order."""
    cited: tuple[str, ...]
    """Ids of the chunks that are cited."""
    made_up: tuple[str, ...]
    """Marks in the answer that no shown chunk has."""

    @property
    def share(self) -> float | None:
        """The share found in what is cited; 0 for an answer that cites nothing, None for one that claims nothing."""
        return self.in_cited / self.claimed if self.claimed else None

    @property
    def share_of_context(self) -> float | None:
        """The share found in all that was shown; None for an answer that claims nothing."""
        return self.in_context / self.claimed if self.claimed else None


def faithfulness(answer: str, context: Context, unsaid: str = UNSAID, language: str = "en") -> Faithfulness:
    """Compare an answer with its context, by whole words without their case.

    An answer that is `unsaid` claims nothing. Of an unknown `language` every word counts.
    """
    citations = context.cited(answer)
    bare = context.without_marks(answer)
    plain = words(bare) == words(unsaid)
    claimed = {} if plain else dict.fromkeys(content(bare, STOPWORDS.get(language, frozenset())))
    cited, shown = _held(citations.chunks), _held(context.chunks)
    return Faithfulness(
        len(claimed), sum(word in cited for word in claimed), sum(word in shown for word in claimed),
        tuple(word for word in claimed if word not in shown), tuple(chunk.id for chunk in citations.chunks),
        citations.unknown,
    )  # fmt: skip


def content(text: str, without: frozenset[str] = frozenset()) -> list[str]:
    """Content words and numbers in order; 1,000 is 1000, 2.50 is 2.5, and 30 is no part of 2030."""
    numbers = [_plain(found[0]) for found in _NUMBER.finditer(text)]
    left = _NUMBER.sub(" ", text)
    return [*(word for word in words(left) if word not in without and word != "_"), *numbers]


def _held(chunks: Iterable[Chunk]) -> set[str]:
    return {word for chunk in chunks for word in content(chunk.told())}


def _plain(number: str) -> str:
    """Without marks between thousands, with a point before decimals, without zeros that say nothing."""
    bare = _MARK.sub("", number) if _GROUPED.fullmatch(number) else number
    whole, _, decimals = bare.replace(",", ".").partition(".")
    decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{decimals}" if decimals else "")
