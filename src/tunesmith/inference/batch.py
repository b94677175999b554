"""The loop that writes answers: rows that are generated together, each by its own rules.

A batch shrinks as its rows end. It knows no text: stop texts, tool calls and requests are its callers', who may end a
row between two tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from .choose import Constrained, Told, choose
from .sampling import Sampling
from .steppers import stepper


@dataclass(eq=False)
class Line:
    """One row: what it continues, how its tokens are chosen, and what has come of it."""

    prompt: Sequence[int]
    sampling: Sampling
    random: torch.Generator | None = None
    """What is drawn from; may be shared. Greedy rows need none."""
    context: int | None = None
    """Bounds prompt and answer together."""
    constraint: Constrained | None = None
    logprobs: int | None = None
    """How many of the likeliest tokens are told beside the chosen one; None tells nothing."""
    tokens: list[int] = field(default_factory=list)
    """The answer, without the stop token."""
    told: list[Told] = field(default_factory=list)
    """Of each of these tokens, where `logprobs` asks for it."""
    finish: Literal["stop", "length"] | None = None
    """Why it ended; None as long as it goes on."""
    ended_by: int | None = None
    """The stop token."""

    def __post_init__(self) -> None:
        if self.limit == 0:
            self.finish = "length"

    @property
    def limit(self) -> int:
        """Tokens that it may have."""
        most = self.sampling.max_tokens
        return max(0, min(most, self.context - len(self.prompt)) if self.context else most)

    def end(self) -> None:
        """No more tokens."""
        self.finish = self.finish or "stop"

    def take(self, token: int, stop_ids: set[int]) -> bool:
        """The next token; whether it became one of the answer's."""
        if token in stop_ids and len(self.tokens) >= self.sampling.min_tokens:
            self.ended_by, self.finish = token, "stop"
            del self.told[len(self.tokens) :]
            return False
        self.tokens.append(token)
        if self.constraint:
            self.constraint.take(token)
            if self.constraint.done:
                self.finish = "stop"
                return True
        if len(self.tokens) == self.limit:
            self.finish = "length"
        return True


class Batch:
    """Lines that are written together."""

    def __init__(self, model: Any, lines: Sequence[Line], pad_id: int, stop_ids: set[int]):
        self._model, self._lines, self._pad_id, self._stop_ids = model, lines, pad_id, stop_ids

    @torch.inference_mode()
    def steps(self) -> Iterator[dict[int, int]]:
        """Each turn of the loop: the new token of each line that got one, by the line's number."""
        alive = [number for number, line in enumerate(self._lines) if not line.finish]
        if not alive:
            return
        rows = stepper(self._model, [self._lines[number].prompt for number in alive], self._pad_id)
        while True:
            lines = [self._lines[number] for number in alive]
            chosen = choose(rows.logits(), lines, self._stop_ids)
            tokens = zip(alive, lines, chosen.tolist(), strict=True)
            yield {number: token for number, line, token in tokens if line.take(token, self._stop_ids)}
            staying = [place for place, line in enumerate(lines) if not line.finish]
            if not staying:
                return
            if len(staying) < len(alive):
                keep = torch.tensor(staying, device=chosen.device)
                rows.keep(keep)
                chosen = chosen[keep]
                alive = [alive[place] for place in staying]
            rows.append(chosen)
