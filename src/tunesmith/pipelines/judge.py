"""A model as a rater: behind an endpoint, or on this machine. Its choices stand beside those of people, and count like
one rater's in kappa; whom people prefer is not for it to decide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core import clock, files
from ..core.errors import ContentError
from ..core.events import Progress, Sink
from ..core.messages import Message
from ..evaluation import judge as judging
from ..evaluation.judge import Judged, Reliability
from ..evaluation.rating import Pair
from ..inference.backends.remote import Question, Said
from ..inference.generate import Sampling
from .known_answers import KnownAnswers
from .rate import FOLDER, JUDGE, Table

ANSWERS = "judge-answers.jsonl"
"""In the run's folder: what judges said, so that no question is paid for twice."""


class Asked(Protocol):
    """A model that answers questions."""

    def answers(self, questions: Iterable[tuple[int, Question]], sampling: Sampling) -> Iterator[tuple[int, Said]]:
        """(number, answer) of every numbered question, as they come in."""


@dataclass(frozen=True)
class Judgement:
    """What a judge said of a table. Tokens are None where the endpoint does not tell them; those of known answers are
    not counted again."""

    rater: str
    reliability: Reliability
    asked: int
    known: int
    tokens_in: int | None
    tokens_out: int | None
    mean_scores: tuple[float, float] | None

    def cost(self, price_in: float | None, price_out: float | None) -> float | None:
        """Money, from prices of a million tokens; None where tokens or prices are not known."""
        if None in (self.tokens_in, self.tokens_out, price_in, price_out):
            return None
        return ((self.tokens_in or 0) * (price_in or 0.0) + (self.tokens_out or 0) * (price_out or 0.0)) / 1e6


def rater(model: str, rubric: str | None) -> str:
    """The name under which a judge's choices are kept."""
    plain = re.sub(r"[^\w.-]+", "-", model).strip("-.")[-48:]
    return f"{JUDGE}{plain}{'-rubric' if rubric else ''}"


def judge(
    table: Table, asked: Asked, model: str, *, where: str, rubric: str | None, rows: int | None, sink: Sink
) -> Judgement:
    """Ask about the pairs that differ, at most `rows` of them, and keep the choices as a rater's.

    `where` and `model` are what known answers belong to. ContentError where there is nothing to choose.
    """
    pairs = [pair for pair in table.pairs if not pair.alike][:rows]
    if not pairs:
        raise ContentError("all answers are equal: there is nothing to choose", where=str(table.run.path))
    questions = [question for pair in pairs for question in _questions(pair, rubric)]
    telling = _Telling(asked, KnownAnswers(table.run, f"{where} {model}", ANSWERS), sink)
    said = telling.all(questions)
    both = zip(pairs, said[::2], said[1::2], strict=True)
    if rubric is None:
        found = [judging.by_order(pair, judging.verdict(a), judging.verdict(b)) for pair, a, b in both]
    else:
        found = [judging.by_score(pair, judging.score(a), judging.score(b)) for pair, a, b in both]
    name = rater(model, rubric)
    files.make_folder(table.run.path / FOLDER)
    table.run.write_lines(f"{FOLDER}/{name}.jsonl", (_row(one) for one in found))
    return Judgement(
        name, judging.reliability(found), telling.asked, len(questions) - telling.asked, telling.tokens_in,
        telling.tokens_out, _means(found) if rubric else None,
    )  # fmt: skip


def _questions(pair: Pair, rubric: str | None) -> list[tuple[Message, ...]]:
    """Two a pair: both orders, or both answers."""
    if rubric is None:
        return [judging.compared(pair, swapped=swapped) for swapped in (False, True)]
    return [judging.scored(pair, place, rubric) for place in (0, 1)]


def _row(one: Judged) -> dict[str, object]:
    return {"pair": one.key, "winner": one.winner, "said": list(one.said), "at": clock.now()}


def _means(found: Sequence[Judged]) -> tuple[float, float] | None:
    """Of the scores of pairs whose two scores are clear."""
    clear = [one.said for one in found if not one.unclear]
    scores = [(a, b) for a, b in clear if isinstance(a, int) and isinstance(b, int)]
    if not scores:
        return None
    return sum(a for a, _ in scores) / len(scores), sum(b for _, b in scores) / len(scores)


class _Telling:
    """Questions to answers, known ones first. What came in is kept even where a later one cannot be had."""

    def __init__(self, asked: Asked, known: KnownAnswers, sink: Sink):
        self._asked, self._known, self._sink = asked, known, sink
        self.asked = 0
        self.tokens_in: int | None = 0
        self.tokens_out: int | None = 0

    def all(self, questions: Sequence[tuple[Message, ...]]) -> list[str]:
        """The answers, in order."""
        decoding = {"max_tokens": judging.LONGEST_ANSWER, "temperature": 0}
        prompts = [[message.template_form() for message in question] for question in questions]
        known = [self._known.get(prompt, decoding) for prompt in prompts]
        said = ["" if found is None else found[0] for found in known]
        open_ones = ((i, Question(questions[i])) for i, found in enumerate(known) if found is None)
        fresh: list[int] = []
        try:
            for number, answer in self._asked.answers(open_ones, Sampling(max_tokens=judging.LONGEST_ANSWER)):
                said[number] = answer.text
                fresh.append(number)
                self._count(answer)
                self._sink(Progress(len(fresh), known.count(None), "questions"))
        finally:
            if fresh:
                self._known.put([prompts[i] for i in fresh], [(said[i], True) for i in fresh], decoding)
        return said

    def _count(self, answer: Said) -> None:
        self.asked += 1
        self.tokens_in = _sum(self.tokens_in, answer.tokens_in)
        self.tokens_out = _sum(self.tokens_out, answer.tokens_out)


def _sum(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
