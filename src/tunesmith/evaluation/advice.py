"""Which way to try first, before there is any data: rules of thumb, each with where it comes from.

Six answers go in; the ways to try come out in order, with the reasons and the number of examples that such a task
usually needs. Nothing is measured here, so nothing is certain: what counts is a comparison on held-out rows.

Sources: Ovadia et al. 2023 (arXiv 2312.05934: retrieval beats fine-tuning at giving facts), Gekhman et al. 2024
(arXiv 2405.05904: learning new facts makes a model invent others), Balaguer et al. 2024 (arXiv 2401.08406: the gains of
both add up), Liu et al. 2022 (arXiv 2205.05638: with a few dozen examples tuning beats examples in the prompt, and
costs less a request), Tunstall et al. 2022 (arXiv 2209.11055: eight examples a label), Zhou et al. 2023
(arXiv 2305.11206: a thousand chosen conversations teach a style), Hsieh et al. 2023 (arXiv 2305.02301: a small model
taught by a large one), Rafailov et al. 2023 (arXiv 2305.18290: preferences after examples).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

Task = Literal["classify", "extract", "rewrite", "answer", "converse", "code", "reason"]
Changes = Literal["never", "monthly", "weekly", "daily"]
Trouble = Literal["untried", "format", "facts", "style", "cost", "quality"]
Way = Literal["prompt", "few_shot", "retrieval", "fine_tune", "fine_tune_and_retrieval", "distil", "preferences"]

EXAMPLES: dict[Task, tuple[int, int]] = {
    "classify": (50, 500), "extract": (200, 2_000), "rewrite": (100, 1_000), "answer": (200, 2_000),
    "converse": (500, 5_000), "code": (1_000, 10_000), "reason": (1_000, 10_000),
}  # fmt: skip
"""Examples that such a task usually takes: from where tuning begins to pay, to where more bring little."""
MANY_A_DAY = 10_000
"""Answers a day from which the length of the prompt is most of the cost."""
FEWEST = 10

NAMES: dict[Way, str] = {
    "prompt": "a better prompt",
    "few_shot": "examples in the prompt",
    "retrieval": "retrieval",
    "fine_tune": "fine-tuning",
    "fine_tune_and_retrieval": "fine-tuning with retrieval",
    "distil": "a small model taught by a large one",
    "preferences": "learning from preferences",
}
NEXT: dict[Way, str] = {
    "prompt": "write twenty prompts with the answers you want; they are your first test rows",
    "few_shot": "keep a hundred rows apart as a test before you choose examples from the rest",
    "retrieval": "tunesmith index DOCS --out index",
    "fine_tune": "tunesmith check rows.jsonl, then tunesmith init rows.jsonl",
    "fine_tune_and_retrieval": "tunesmith data with-context rows.jsonl DOCS, then tunesmith init",
    "distil": "method: {type: distill, on: answers}, docs/how-to/distill.md",
    "preferences": "tunesmith rate RUN --preferences pairs.jsonl, docs/how-to/preferences.md",
}


@dataclass(frozen=True)
class Situation:
    """The six answers. `examples` are prompts with the right answer that are at hand; `volume` is answers a day."""

    task: Task
    trouble: Trouble
    examples: int
    changes: Changes
    volume: int
    may_leave: bool

    @property
    def of_facts(self) -> bool:
        """Whether what is missing is knowledge, not skill."""
        return self.trouble == "facts" or self.task == "answer"

    @property
    def of_skill(self) -> bool:
        """Whether what is missing is how to answer."""
        return self.trouble in ("format", "style", "quality") or (self.trouble == "cost" and self.task != "answer")

    @property
    def enough(self) -> bool:
        """Whether there are examples from which tuning begins to pay."""
        return self.examples >= EXAMPLES[self.task][0]


@dataclass(frozen=True)
class Step:
    """A way to try, and why."""

    way: Way
    because: str

    def as_json(self) -> dict[str, str]:
        """With its name in words and what to do next."""
        return {"way": self.way, "name": NAMES[self.way], "because": self.because, "next": NEXT[self.way]}


@dataclass(frozen=True)
class Advice:
    """Ways to try, the first one first; the usual number of examples; and what holds besides."""

    steps: tuple[Step, ...]
    examples: tuple[int, int]
    notes: tuple[str, ...]


def advise(situation: Situation) -> Advice:
    """What to try in this situation. Each way stands once, where it comes first."""
    steps: dict[Way, Step] = {}
    for step in (*_untried(situation), *_facts(situation), *_skill(situation), *_cost(situation), *_last(situation)):
        steps.setdefault(step.way, step)
    return Advice(tuple(steps.values()), EXAMPLES[situation.task], tuple(_notes(situation)))


def _untried(s: Situation) -> Iterator[Step]:
    if s.trouble == "untried":
        yield Step("prompt", "nothing was tried yet: a prompt costs an hour, and is what all else is measured against")
        if s.examples:
            yield Step("few_shot", "examples in the prompt need no training and show what more of them would bring")


def _facts(s: Situation) -> Iterator[Step]:
    if not s.of_facts:
        return
    changing = s.changes != "never"
    often = f"the facts change {s.changes}: an index is updated in seconds, a tuned model would have to be tuned again"
    fixed = "facts belong where they can be looked up and cited: a model tuned on new facts learns to invent others"
    yield Step("retrieval", often if changing else fixed)
    if s.enough:
        yield Step(
            "fine_tune_and_retrieval",
            "retrieval brings the facts, tuning teaches how to use them and when to say that they are not there",
        )


def _skill(s: Situation) -> Iterator[Step]:
    if not s.of_skill:
        return
    least = EXAMPLES[s.task][0]
    what = {"format": "a format", "style": "a style", "cost": "a narrow task"}.get(s.trouble, "a skill")
    if s.enough:
        yield Step("fine_tune", f"{what} is what tuning teaches best, and {s.examples:,} examples are enough to begin")
    elif s.examples:
        yield Step("few_shot", f"{s.examples:,} examples are few for tuning on such a task; in a prompt they help now")
        if s.examples >= FEWEST:
            yield Step("fine_tune", f"worth a try already, and the better way from some {least:,} examples on")
    else:
        yield Step("prompt", f"without examples nothing else can be tried: collect some {least:,} meanwhile")


def _cost(s: Situation) -> Iterator[Step]:
    if s.trouble != "cost" and s.volume < MANY_A_DAY:
        return
    if s.enough:
        yield Step("fine_tune", "a tuned small model needs no long prompt: what a request costs falls with its length")
    elif s.may_leave:
        yield Step("distil", "a large model answers your prompts once, and a small one learns from its answers")


def _last(s: Situation) -> Iterator[Step]:
    if s.task == "converse" and s.enough:
        yield Step(
            "preferences", "once a tuned model speaks, the better of two answers is easier to choose than to write"
        )
    yield Step("prompt", "cheap, and what the other ways are measured against")
    if s.examples:
        yield Step("few_shot", "needs no training")
    if s.enough:
        yield Step("fine_tune", f"{s.examples:,} examples are enough to find out")


def _notes(s: Situation) -> Iterator[str]:
    low, high = EXAMPLES[s.task]
    yield f"such a task usually takes {low:,} to {high:,} examples; good ones count for more than many"
    if s.task == "classify":
        yield "of labels count the rarest: from eight examples of each on it can be learned"
    if not s.may_leave:
        yield "data may not leave: base, training and serving stay on your machines, and no endpoint of others teaches"
    if s.examples < 2 * FEWEST:
        yield "before all else keep test rows apart: with fewer than a hundred only large differences can be seen"
    yield "these are rules of thumb: compare the ways on your own held-out rows before you settle on one"


CHOICES: dict[str, tuple[str, ...]] = {
    "task": get_args(Task), "trouble": get_args(Trouble), "changes": get_args(Changes)
}  # fmt: skip
