"""Rows that would teach the wrong thing: broken texts, refusals, lengths far out, and what labels and JSON show.

The limits are set so that a clean set stays quiet (tests/unit/test_planted_defects.py): a warning that is usually
wrong is soon not read.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.events import Sink, silent
from ..core.messages import Example
from .audit import Finding
from .json_answers import JsonAnswers
from .labels import ENOUGH_TO_COMPARE, Labels
from .look import Judgement, Look, Marks, Row, look

FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which Tukey (1977) calls a value far out."""
NARROWEST = 0.35
"""The least interquartile range of log lengths: rows of one template would make every other length an outlier."""


def quality(
    examples: Sequence[Example], more: Sequence[Look] = (), sink: Sink = silent,
    judged: Iterable[Judgement] | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """Every check of this module, and `more` checks with them, in one pass over the rows.

    `judged` is what was judged of each row by itself already (`judge`).
    """
    looks: tuple[Look, ...] = (Labels(examples), Lengths(examples), *marks(), JsonAnswers(examples), *more)
    yield from look(examples, looks, sink, judged)


def marks() -> tuple[Marks, ...]:
    """The checks of this module that judge each row by itself."""
    return refusals(), boilerplate(), broken_encoding(), repetition()


class Lengths:
    """Prompts and answers far longer or shorter than the rest (Tukey's far-out fences, on log lengths)."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = examples
        self._lengths = {"prompt": array("i"), "answer": array("i")}

    def see(self, portion: Sequence[Row]) -> None:
        """The next rows."""
        self._lengths["prompt"].extend(len(row.prompt) for row in portion)
        self._lengths["answer"].extend(len(row.answer) for row in portion)

    def findings(self) -> Iterator[Finding]:
        """One for prompts, one for answers, where there are rows enough to compare."""
        for name, lengths in self._lengths.items():
            if len(lengths) >= ENOUGH_TO_COMPARE:
                yield from self._outliers(name, np.asarray(lengths, dtype=np.int64))

    def _outliers(self, name: str, lengths: NDArray[np.int64]) -> Iterator[Finding]:
        low, high = _fences(lengths[lengths > 0])
        out = np.flatnonzero((lengths > high) | ((lengths < low) & (lengths > 0)))
        if len(out):
            yield Finding(
                "length_outlier", "warn",
                f"{name} is far longer or shorter than the rest (outside {low:.0f} to {high:.0f} characters)",
                "look whether these rows belong here", tuple(self._examples[i].origin for i in out.tolist()),
            )  # fmt: skip


def _fences(lengths: NDArray[np.int64]) -> tuple[float, float]:
    if not len(lengths):
        return 0.0, np.inf
    low, high = np.quantile(np.log(lengths), [0.25, 0.75])
    reach = FENCE * max(high - low, NARROWEST)
    return float(np.exp(low - reach)), float(np.exp(high + reach))


_REFUSALS = (
    "as an ai", "as a language model", "as a large language model", "i'm just an ai", "i am just an ai",
    "i'm sorry, but i can", "i am sorry, but i can", "i'm sorry, i can't", "i cannot assist", "i can't assist",
    "i cannot help with", "i can't help with", "i'm unable to", "i am unable to", "i cannot fulfill",
    "i can't fulfill", "i cannot provide", "i can't provide", "my knowledge cutoff", "my training data",
)  # fmt: skip
_BOILERPLATE = (
    "certainly! here", "sure! here", "sure, here", "of course! here", "i hope this helps",
    "let me know if you have any", "let me know if you need", "feel free to ask", "happy to help with that",
)  # fmt: skip
REFUSAL_WITHIN = 200
"""Characters of an answer in which a refusal stands; one that quotes such words comes to them later."""


def refusals() -> Marks:
    """Answers in which another model declines: a specialist would learn to decline."""
    return Marks(
        "refusal",
        lambda row: _says(row.answer[:REFUSAL_WITHIN], _REFUSALS),
        lambda places: Finding(
            "refusal", "warn", "answer is a refusal, or speaks of itself as an AI",
            "remove these rows, unless the model should decline here", places,
        ),
    )  # fmt: skip


def boilerplate() -> Marks:
    """Answers with an assistant's phrases around them."""
    edge = REFUSAL_WITHIN // 2
    return Marks(
        "boilerplate",
        lambda row: _says(row.answer[:edge], _BOILERPLATE) or _says(row.answer[-edge:], _BOILERPLATE),
        lambda places: Finding(
            "boilerplate", "info", "answer has an assistant's phrases around it ('Sure! Here is', 'I hope this helps')",
            "cut them, unless the model should say them", places,
        ),
    )  # fmt: skip


def _says(text: str, phrases: Sequence[str]) -> bool:
    low = text.casefold().replace("\u2019", "'")
    for phrase in phrases:  # noqa: SIM110  a generator for any() is slower
        if phrase in low:
            return True
    return False


CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
# UTF-8 read as Windows-1252: the lead byte of a sequence shows as a letter from A-circumflex on, the bytes that go
# on with it as Latin-1's upper symbols or Windows-1252's own.
_WINDOWS = "".join(bytes([b]).decode("cp1252", "ignore") for b in range(0x80, 0xA0))
MISREAD = re.compile("[\u00c2-\u00f4][\u0080-\u00bf" + _WINDOWS + "]{1,3}")


def broken_encoding() -> Marks:
    """Texts that were decoded wrongly: replacement and control characters, UTF-8 read as Windows-1252."""
    return Marks(
        "broken_encoding",
        lambda row: garbled(row.prompt) or garbled(row.answer),
        lambda places: Finding(
            "broken_encoding", "warn", "text was decoded wrongly (such as 'Ã©' for 'é', or control characters)",
            "read the source again in its own encoding", places,
        ),
    )  # fmt: skip


def garbled(text: str) -> bool:
    """Whether the text was decoded wrongly somewhere."""
    if text.isascii() and text.isprintable():
        return False
    if CONTROL.search(text):
        return True
    return not text.isascii() and any(_was_utf8(match.group()) for match in MISREAD.finditer(text))


def _was_utf8(piece: str) -> bool:
    """Whether the letters, as bytes of Windows-1252, begin with a character in UTF-8."""
    data = b"".join(c.encode("latin-1") if c < "\u0100" else c.encode("cp1252") for c in piece)
    for size in range(2, len(data) + 1):
        try:
            data[:size].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False


REPETITIVE_WORDS, REPETITIVE_SHARE, LONGEST_RUN = 24, 0.4, 12
_RUN = re.compile(r"([^\W_])\1{%d}" % (LONGEST_RUN - 1))  # noqa: UP031  braces are the expression's own


def repetition() -> Marks:
    """Texts that say the same again and again, as models that lost the thread do."""
    return Marks(
        "repetition",
        lambda row: _repeats(row.answer) or _repeats(row.prompt),
        lambda places: Finding(
            "repetition", "warn", "text repeats itself over and over",
            "remove these rows: a model learns to do the same", places,
        ),
    )  # fmt: skip


def _repeats(text: str) -> bool:
    """Fewer than two in five of its three-word runs are different, or one letter stands a dozen times in a row."""
    words = text.split()
    least = REPETITIVE_SHARE * len(words)
    # Most texts have words enough in their first two thirds, which is cheaper to see.
    if len(words) >= REPETITIVE_WORDS and all(len(set(words[:end])) < least for end in (2 * len(words) // 3, None)):
        runs = list(zip(words, words[1:], words[2:], strict=False))
        if len(set(runs)) < REPETITIVE_SHARE * len(runs):
            return True
    return any(_RUN.search(word) for word in [word for word in words if len(word) >= LONGEST_RUN])
