"""Ways to have a row answered without changing a weight, and what a table of ways says.

A strategy turns a row into the messages that a model is shown. Which model, and what documents, is the journey's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..core.messages import Example, Message
from ..data.lexical import Lexical, best, words
from .metrics.over_rows import Scored
from .stats import Interval, bootstrap

Fits = Callable[[Sequence[Message]], bool]
"""Whether a conversation leaves the model room for its answer."""


OUTDATED = 0.1
"""The share of the test rows from which learned answers that are wrong are told."""


class Strategy(Protocol):
    """A way to ask."""

    @property
    def name(self) -> str:
        """The name in tables."""

    def messages(self, row: Example, fits: Fits) -> tuple[Message, ...]:
        """What the model is shown for a row; its right answer is not among it."""


@dataclass(frozen=True)
class Plain:
    """The row's own prompt, under another system message where one is given."""

    name: str = "prompt"
    system: str | None = None

    def messages(self, row: Example, fits: Fits) -> tuple[Message, ...]:
        """The prompt."""
        return under(row.prompt(), self.system)


class Shots:
    """Examples in the prompt: the same ones for every row, drawn by the seed, or those most like the row (BM25)."""

    def __init__(self, pool: Sequence[Example], count: int, *, nearest: bool, seed: int, system: str | None = None):
        self.name = f"{count}-shot {'BM25' if nearest else 'random'}"
        self._count, self._system = count, system
        self._pool = [row for row in pool if len([m for m in row.prompt() if m.role != "system"]) == 1]
        drawn = np.random.default_rng(seed).permutation(len(self._pool))[:count].tolist()
        self._fixed = None if nearest else drawn
        self._index = Lexical([_asked(row) for row in self._pool]) if nearest else None

    def messages(self, row: Example, fits: Fits) -> tuple[Message, ...]:
        """System message, examples (the most like one last), the row's prompt; as many examples as have room."""
        opening = [m for m in row.prompt() if m.role == "system"]
        rest = [m for m in row.prompt() if m.role != "system"]
        places = self._places(row)
        while True:
            shown = [m for place in reversed(places) for m in _pair(self._pool[place])]
            made = under((*opening, *shown, *rest), self._system)
            if not places or fits(made):
                return made
            places = places[:-1]

    def _places(self, row: Example) -> list[int]:
        """The most like one first."""
        if self._index is None:
            return list(self._fixed or ())
        return best(self._index.scores(words(_asked(row))), np.arange(len(self._pool)), self._count)


def under(messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """The messages under another system message; as they are where there is none."""
    if system is None:
        return tuple(messages)
    return (Message(role="system", content=system), *(m for m in messages if m.role != "system"))


def _asked(row: Example) -> str:
    return "\n".join(m.content or "" for m in row.prompt() if m.role == "user")


def _pair(row: Example) -> tuple[Message, Message]:
    question = next(m for m in row.prompt() if m.role != "system")
    return question, Message(role="assistant", content=row.answer())


@dataclass(frozen=True)
class Way:
    """How one way did. Tokens are means an answer; `cost` is money for 1,000 answers and `set_up` once, None where no
    price is known; `memory` in MiB is of the model's weights as they are held, None behind an endpoint."""

    name: str
    scores: dict[str, Scored]
    tokens_in: float
    tokens_out: float
    seconds: float
    cost: float | None = None
    set_up: float | None = None
    set_up_seconds: float = 0.0
    tuned: bool = False
    documents: bool = False
    model: str = ""
    """Base and adapter in words, or the endpoint's model."""
    memory: float | None = None
    outdated: int = 0
    """Wrong answers that are those of training rows which ask nearly the same."""

    @property
    def first(self) -> Scored:
        """By the metric that counts."""
        return next(iter(self.scores.values()))


@dataclass(frozen=True)
class Recommendation:
    """The way to take: the cheapest of those that are not surely worse than the best; `ties` are these without the
    best."""

    best: str
    take: str
    ties: tuple[str, ...]
    reasons: tuple[str, ...]


def gap(a: Way, b: Way, *, resamples: int, seed: int) -> Interval:
    """a minus b on the same rows, by the metric that counts, with its 95 % interval."""
    return bootstrap(b.first, a.first, resamples=resamples, seed=seed).delta


def recommend(ways: Sequence[Way], *, resamples: int, seed: int) -> Recommendation:
    """What the table says, never more surely than its intervals. Higher scores are better. Where costs are unknown
    fewer tokens count as cheaper, then the smaller model; what needs no training is taken before what does, where
    neither is better."""
    top = max(ways, key=lambda way: way.first.value)
    gaps = {way.name: gap(top, way, resamples=resamples, seed=seed) for way in ways if way is not top}
    alike = [way for way in ways if way is not top and gaps[way.name].holds_zero]
    take = min([top, *alike], key=_expense)
    reasons = _reasons(ways, top, take, gaps, resamples, seed)
    return Recommendation(top.name, take.name, tuple(way.name for way in alike), tuple(reasons))


def _expense(way: Way) -> tuple[bool, float, float]:
    return way.tuned, way.cost if way.cost is not None else way.tokens_in, way.memory or 0.0


def _reasons(
    ways: Sequence[Way], top: Way, take: Way, gaps: dict[str, Interval], resamples: int, seed: int
) -> list[str]:
    told = [f"{top.name} scores highest: {top.first.value:.3f}"]
    if take is not top:
        found = gaps[take.name]
        told.append(
            f"{take.name} may be as good (the difference lies within {found.low:+.3f} and {found.high:+.3f}) and costs "
            "less"
        )
    told += _gain(ways, "training", lambda way: way.tuned, resamples, seed)
    retrieval = _gain(ways, "retrieval", lambda way: way.documents, resamples, seed)
    return told + retrieval + (_outdated(ways) if any(text.startswith("retrieval helps") for text in retrieval) else [])


_MEANT = {
    "training": "what is missing is a skill or a format, which training teaches",
    "retrieval": "what is missing is facts, which documents bring, and keep up to date",
}


def _gain(ways: Sequence[Way], what: str, has: Callable[[Way], bool], resamples: int, seed: int) -> list[str]:
    """What the best way with something gains over the best without, where that is sure."""
    sides = [[way for way in ways if has(way) == wanted] for wanted in (True, False)]
    if not all(sides):
        return []
    one, other = (max(side, key=lambda way: way.first.value) for side in sides)
    found = gap(one, other, resamples=resamples, seed=seed)
    if found.holds_zero:
        between = f"{one.name} against {other.name} {found.low:+.3f} to {found.high:+.3f}"
        return [f"whether {what} helps is not shown: {between}"]
    if found.low > 0:
        return [f"{what} helps ({one.name} against {other.name}: at least {found.low:+.3f}): {_MEANT[what]}"]
    return [f"{what} harms here ({one.name} against {other.name}: at most {found.high:+.3f})"]


def _outdated(ways: Sequence[Way]) -> list[str]:
    """That what was learned is right no more, where that is seen."""
    alone = max((way for way in ways if way.tuned and not way.documents), key=lambda way: way.outdated, default=None)
    if alone is None or alone.outdated < OUTDATED * len(alone.first.rows):
        return []
    return [
        f"{alone.name} gives {alone.outdated} of {len(alone.first.rows)} rows what training rows answer to nearly the "
        "same question, and it is wrong: facts have changed since they were learned, so keep them in documents"
    ]


def break_even(dear: Way, cheap: Way) -> float | None:
    """Answers from which the set-up of `dear` is paid by its cheaper answers, 0 where it costs no more from the first;
    None where it never is, or is unknown."""
    if dear.cost is None or cheap.cost is None or dear.set_up is None or dear.cost >= cheap.cost:
        return None
    return max(0.0, 1000 * (dear.set_up - (cheap.set_up or 0.0)) / (cheap.cost - dear.cost))
