"""A batch at work: its lines, and the writers who give away what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .ask import Ask
from .batch import Batch, Line
from .constrain import Matcher
from .handle import Handle
from .score import prompt_logprobs
from .slots import Slot, context_of
from .words import Words
from .writer import Writer

_SEED_STEP, _SEEDS = 1_000_003, 2**63


@dataclass(frozen=True, eq=False)
class Work:
    """One answer that waits: all that its line and its writer are made of."""

    ask: Ask
    index: int
    prompt: list[int]
    words: Words
    handle: Handle
    matcher: Callable[[], Matcher] | None

    @property
    def tokens(self) -> int:
        """The most that prompt and answer can come to."""
        context = context_of(self.ask.model)
        most = len(self.prompt) + self.ask.sampling.max_tokens
        return min(most, context) if context else most


class Running:
    """A batch at work."""

    def __init__(self, slot: Slot, works: Sequence[Work]):
        self.slot = slot
        words = works[0].words
        lines = [_line(work, slot.model) for work in works]
        self.writers = [
            Writer(work.ask, work.index, work.handle, line, work.words)
            for work, line in zip(works, lines, strict=True)
        ]  # fmt: skip
        self._works = works
        self._begun = False
        self._steps = Batch(slot.model, lines, words.pad_id, words.stop_ids).steps()

    @property
    def going(self) -> int:
        """Answers that are not at their end."""
        return sum(not writer.over for writer in self.writers)

    @property
    def tokens(self) -> int:
        """The most that answers under way can come to, with their prompts."""
        return sum(work.tokens for work, writer in zip(self._works, self.writers, strict=True) if not writer.over)

    def step(self) -> bool:
        """One token for each line; whether any goes on."""
        with self.slot.on():
            if not self._begun:
                self._begin()
            for writer in self.writers:
                writer.check()
            tokens = next(self._steps, {})
        for number, writer in enumerate(self.writers):
            writer.took(tokens.get(number))
        return not all(writer.over for writer in self.writers)

    def fail(self, error: BaseException) -> None:
        """None of its answers will be finished."""
        for writer in self.writers:
            writer.handle.fail(error)

    def _begin(self) -> None:
        self._begun = True
        for work, writer in zip(self._works, self.writers, strict=True):
            if work.ask.prompt_logprobs and work.index == 0:
                told = prompt_logprobs(self.slot.model, work.prompt, work.ask.logprobs or 0)
                rest = zip(work.prompt[1:], told, strict=True)
                writer.prompt((work.words.first(work.prompt[0]), *(work.words.told(*one) for one in rest)))


def _line(work: Work, model: torch.nn.Module) -> Line:
    """The row of an answer. Its random numbers are its own, so that company does not matter."""
    sampling = work.ask.sampling
    random = None
    if sampling.temperature:
        seed = (sampling.seed + work.index * _SEED_STEP) % _SEEDS
        random = torch.Generator(device=next(model.parameters()).device).manual_seed(seed)
    constraint = work.matcher() if work.matcher else None
    return Line(work.prompt, sampling, random, context_of(work.ask.model), constraint, work.ask.logprobs)
