"""People's judgement of two models' answers: who sees which answer on which side, and what their choices say.

Order and sides are drawn from the seed, the rater and the pair alone: nothing needs to be kept to go on later, and two
raters see the same pairs in other orders. A tie says nothing about which model is better and is left out of the sign
test (Dixon and Mood 1946); how many there were is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import fingerprints
from ..core.later import later

stats, sklearn_metrics = later("scipy.stats"), later("sklearn.metrics")

TIE = "tie"
SURE = 0.05
"""A difference is called one below this p."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. `names` are of who gave them, `answers` in the same order."""

    prompt: tuple[Mapping[str, Any], ...]
    names: tuple[str, str]
    answers: tuple[str, str]
    reference: str | None = None

    @property
    def key(self) -> str:
        """What prompt, names and answers are; other answers make another pair."""
        return fingerprints.of_object([list(self.prompt), self.names, self.answers])

    @property
    def alike(self) -> bool:
        """Whether there is nothing to choose."""
        return self.answers[0].strip() == self.answers[1].strip()


@dataclass(frozen=True)
class Shown:
    """A pair as a rater sees it: (name, answer) of the left and of the right side."""

    pair: Pair
    left: tuple[str, str]
    right: tuple[str, str]


def shown(pairs: Sequence[Pair], rater: str, seed: int) -> list[Shown]:
    """The pairs that differ, in this rater's order and each with this rater's sides."""
    drawn = sorted((_draw(pair, rater, seed), number) for number, pair in enumerate(pairs) if not pair.alike)
    made = []
    for draw, number in drawn:
        sides = list(zip(pairs[number].names, pairs[number].answers, strict=True))
        left, right = reversed(sides) if draw[-1] & 1 else sides
        made.append(Shown(pairs[number], left, right))
    return made


def _draw(pair: Pair, rater: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{rater}\n{pair.key}".encode()).digest()


@dataclass(frozen=True)
class Choices:
    """How often each of two was preferred. `share` is the second's of all decided pairs, with its 95 % interval
    (Clopper and Pearson 1934); `p` is the two-sided sign test's. None where nothing was decided."""

    names: tuple[str, str]
    first: int
    second: int
    ties: int
    share: float | None
    ci95: tuple[float, float] | None
    p: float | None

    @property
    def better(self) -> str | None:
        """Who was preferred, where chance alone does not explain it."""
        if self.p is None or self.p >= SURE:
            return None
        return self.names[1] if self.second > self.first else self.names[0]

    def words(self) -> str:
        """The verdict as a sentence."""
        decided = self.first + self.second
        if self.share is None or self.ci95 is None or self.p is None:
            return f"nothing was decided ({self.ties} rated as good as each other)"
        told = (
            f"{self.names[1]} was preferred in {self.second} of {decided} decided pairs "
            f"({self.share:.0%}, 95 % interval {self.ci95[0]:.0%} to {self.ci95[1]:.0%}; ties: {self.ties}; "
            f"sign test p = {self.p:.2g})"
        )
        return f"{self.better} is preferred: {told}" if self.better else f"no preference is shown: {told}"


def choices(names: tuple[str, str], winners: Sequence[str]) -> Choices:
    """Count winners, each one of the names or a tie, and test them."""
    first, second, ties = (winners.count(name) for name in (*names, TIE))
    decided = first + second
    if not decided:
        return Choices(names, first, second, ties, None, None, None)
    test = stats.binomtest(second, decided)
    interval = test.proportion_ci(0.95, method="exact")
    return Choices(
        names, first, second, ties, second / decided, (float(interval.low), float(interval.high)), float(test.pvalue)
    )


@dataclass(frozen=True)
class Agreement:
    """Two raters on the pairs that both have rated. `kappa` is Cohen's (1960), 1 for always and 0 for no more often
    than by chance; None where both always say the same one thing, so that chance explains all."""

    raters: tuple[str, str]
    pairs: int
    same: float
    kappa: float | None


def agreement(raters: tuple[str, str], first: Mapping[str, str], second: Mapping[str, str]) -> Agreement | None:
    """From each rater's winner by pair; None where no pair was rated by both."""
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    a, b = [first[key] for key in both], [second[key] for key in both]
    same = sum(x == y for x, y in zip(a, b, strict=True)) / len(both)
    varied = len({*a, *b}) > 1
    return Agreement(raters, len(both), same, float(sklearn_metrics.cohen_kappa_score(a, b)) if varied else None)
