"""Rows whose answer is one of some labels, as tokens: the prompt as it is served, and the label's number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.messages import Example, spoken
from .branches import Family
from .rows import Lazy
from .tokenize import Encoded

UNKNOWN = -1
"""The number of an answer that is none of the labels."""


@dataclass(frozen=True)
class Classed:
    """A prompt and its label's number. `weight` is what it counts in the mean over a step."""

    prompt: Encoded
    label: int
    weight: float = 1.0

    @property
    def length(self) -> int:
        """Tokens."""
        return self.prompt.length

    @property
    def labelled(self) -> int:
        """One decision."""
        return 1

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """The prompt."""
        return (self.prompt,)

    def family(self) -> Family:
        """The one sequence."""
        return Family((self.prompt,), 0)

    def weighing(self, weight: float) -> Classed:
        """The same with another weight."""
        return replace(self, weight=weight)


class ClassedRows(Lazy[Classed]):
    """Supervised rows as prompts and labels, each made when it is read."""

    def __init__(self, examples: Sequence[Example], encoded: Sequence[Encoded], labels: Sequence[str]):
        self._examples, self._encoded = examples, encoded
        self._number = {label: number for number, label in enumerate(labels)}

    def __len__(self) -> int:
        return len(self._encoded)

    def at(self, place: int) -> Classed:
        """The row at a place."""
        number = self._number.get(answer(self._examples[place]), UNKNOWN)
        return Classed(prompt(self._encoded[place]), number)


def answer(example: Example) -> str:
    """The last turn that is learned, without thinking and white space around it: what a label is looked for in."""
    last = next(message for message in reversed(example.messages) if message.learned)
    return spoken(last.content or "").strip()


def prompt(encoded: Encoded) -> Encoded:
    """What stands before the last turn that is learned, token for token as it is served; see `tokenize`."""
    labelled = encoded.loss_weight > 0
    begins = np.flatnonzero(labelled & ~np.append(False, labelled[:-1]))
    end = int(begins[-1]) if len(begins) else encoded.length
    return Encoded(encoded.input_ids[:end], np.zeros(end, dtype=np.float32))


def by_frequency(answers: Iterable[str]) -> tuple[str, ...]:
    """The different answers, the most frequent first, equally frequent ones by name."""
    counts = Counter(answers)
    return tuple(sorted(counts, key=lambda label: (-counts[label], label)))
