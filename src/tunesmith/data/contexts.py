"""Question and answer to a row that teaches a model to use the context it is given.

The right passage stands among distractors, the passages most like it that do not hold the answer. A share of the rows
has distractors alone, and an answer that says so. All that is drawn hangs on the seed and on the row's own content:
another row more or less changes nothing in the others but who is among the share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..core.messages import Example, Message
from . import identity
from .lexical import Indices, Lexical, Scores, best, words
from .passages import Passage

How = Literal["named", "answer", "words"]
"""How the right passage was found: the row names it, it holds the answer, it shares most words."""
TELLING = 4
"""Words from which an answer is hardly in a passage by chance. For a shorter one half of the floor is asked besides."""
UNSAID = "The context does not say."
_ASK = "Answer the question from the context alone. If the context does not say, answer: {unsaid}"
_CITE = " Behind each statement name the passage that it is from, by its mark in square brackets."


@dataclass(frozen=True)
class ContextPlan:
    """How rows are made."""

    passages: int = 4
    """Passages in a row; fewer where there are no more."""
    unanswerable: float = 0.1
    """The share of rows whose answer is not there."""
    unsaid: str = UNSAID
    """What is answered then."""
    floor: float = 0.4
    """The share of the words of question and answer, by their rarity, that a passage must hold to be right by words."""
    seed: int = 0


class NoPassageError(Exception):
    """No passage is right for a row; the text is the reason."""


@dataclass(frozen=True)
class Found:
    """The right passage of a row, and the distractors, the hardest first; places in the list of passages."""

    right: int
    how: How
    distractors: tuple[int, ...]
    digest: bytes
    """The row's own."""


@dataclass(frozen=True)
class Shelf:
    """The passages, their index, and which of them each name stands for."""

    passages: Sequence[Passage]
    index: Lexical
    named: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def find(self, example: Example, plan: ContextPlan, key: str | None = None) -> Found:
        """The right passage and the distractors; NoPassageError. `key` is that of the metadata naming the passage."""
        prompt = example.prompt()
        if not prompt or prompt[-1].role != "user":
            raise NoPassageError("the turn before the answer is not the user's")
        said = words(example.answer())
        query = [*words(prompt[-1].content or ""), *said]
        scores, holding = self.index.scores(query), self.index.holding(example.answer())
        name = example.metadata.get(key) if key else None
        if name is not None:
            right, how = self._by_name(str(name), scores, holding)
        else:
            right, how = self._by_words(query, scores, holding, telling=len(said) >= TELLING, floor=plan.floor)
        scores[[right, *holding]] = -1.0
        distractors = best(scores, np.flatnonzero(scores >= 0), plan.passages)
        return Found(right, how, tuple(distractors), identity.digest(example))

    def _by_name(self, name: str, scores: Scores, holding: Indices) -> tuple[int, How]:
        among = np.array(self.named.get(name, ()), dtype=np.intp)
        if not len(among):
            raise NoPassageError(f"none of the documents is called '{name}'")
        within = among[np.isin(among, holding)]
        return _highest(scores, within if len(within) else among), "named"

    def _by_words(
        self, query: Sequence[str], scores: Scores, holding: Indices, *, telling: bool, floor: float
    ) -> tuple[int, How]:
        if len(holding):
            best = _highest(scores, holding)
            if telling or self.index.coverage(query, best) >= floor / 2:
                return best, "answer"
        best = _highest(scores, np.arange(len(scores)))
        if self.index.coverage(query, best) >= floor:
            return best, "words"
        raise NoPassageError("no passage holds the answer, or enough words of question and answer")


def _highest(scores: Scores, among: Indices) -> int:
    """The first of the best."""
    return int(among[np.argmax(scores[among])])


def unanswerable(rows: Sequence[Found], plan: ContextPlan) -> set[int]:
    """Places of the rows whose right passage is kept back: a seeded share of all, of those that have a distractor."""
    able = [place for place, found in enumerate(rows) if found.distractors]
    drawn = sorted(able, key=lambda place: (_draw(plan.seed, rows[place], "kept back"), place))
    return set(drawn[: round(plan.unanswerable * len(rows))])


def asked(told: Iterable[tuple[str, str]], question: str, unsaid: str, *, cite: bool = False) -> str:
    """What the user's turn holds: how to answer, (mark, text) of each passage, the question.

    `cite` asks for the marks in the answer.
    """
    passages = "\n\n".join(f"[{mark}] {text}" for mark, text in told)
    how = _ASK.format(unsaid=unsaid) + (_CITE if cite else "")
    return f"{how}\n\nContext:\n\n{passages}\n\nQuestion: {question}"


def with_context(example: Example, found: Found, shelf: Shelf, plan: ContextPlan, *, answerable: bool) -> Example:
    """The row with its passages in the last user's turn, and in its metadata where they are from."""
    chosen = [found.right, *found.distractors[: plan.passages - 1]] if answerable else [*found.distractors]
    order = sorted(chosen, key=lambda i: (_draw(plan.seed, found, shelf.passages[i].place), i))
    told = ((str(number), shelf.passages[i].text) for number, i in enumerate(order, start=1))
    prompt = example.prompt()
    question = prompt[-1].model_copy(update={"content": asked(told, prompt[-1].content or "", plan.unsaid)})
    answer = example.messages[len(prompt) :] if answerable else (Message(role="assistant", content=plan.unsaid),)
    facts = {
        "context_answerable": answerable,
        "context_found_by": found.how,
        "context_right": shelf.passages[found.right].place,
        "context_passages": [shelf.passages[i].place for i in order],
    }
    facts |= {} if answerable else {"context_answer": example.answer()}
    return example.model_copy(
        update={"messages": (*prompt[:-1], question, *answer), "metadata": example.metadata | facts}
    )  # fmt: skip


def _draw(seed: int, found: Found, what: str) -> bytes:
    """Bytes that are as good as drawn at random, the same wherever and in whatever order they are asked for."""
    return hashlib.blake2b(f"{seed}\n{what}\n".encode("utf-8", "surrogatepass") + found.digest, digest_size=8).digest()
