"""Rows with answers to be compared or judged, as tokens: pairs of a better and a worse one; answers called good or bad.

Loss weights mark an answer's tokens: those of the turns behind the prompt, their end-of-turn included. Earlier answers
inside a prompt carry none, for they are not what is judged.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from ..core.messages import Example, Labelled, Message, Preference
from .branches import Family
from .rows import Lazy
from .template import TemplateError, Tokenizer
from .tokenize import Encoded, encode
from .tokens import Sizes, TokenStore


@dataclass(frozen=True)
class Pair:
    """A prompt with the better and the worse answer; it counts as one, however long the answers are."""

    chosen: Encoded
    rejected: Encoded
    margin: float = 0.0
    """By how much the chosen answer is to win; only a reward model asks."""

    @property
    def shared(self) -> int:
        """Tokens at the beginning that both sequences have and that belong to no answer: the prompt, or most of it."""
        first, other = self.chosen, self.rejected
        most = min(_prompt(first), _prompt(other))
        differing = np.flatnonzero(first.input_ids[:most] != other.input_ids[:most])
        return int(differing[0]) if len(differing) else most

    @property
    def length(self) -> int:
        """Tokens, the prompt once."""
        return self.chosen.length + self.rejected.length - self.shared

    def family(self) -> Family:
        """Both sequences behind the prompt that they share; the chosen one first."""
        return Family(self.sequences, self.shared)

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """The chosen one first."""
        return self.chosen, self.rejected

    @property
    def weight(self) -> float:
        """One pair."""
        return 1.0

    @property
    def labelled(self) -> int:
        """Tokens of both answers."""
        return self.chosen.labelled + self.rejected.labelled


@dataclass(frozen=True)
class Judged:
    """A prompt with one answer, and whether it is good."""

    answer: Encoded
    good: bool

    @property
    def length(self) -> int:
        """Tokens."""
        return self.answer.length

    def family(self) -> Family:
        """The one sequence."""
        return Family(self.sequences, 0)

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """The one."""
        return (self.answer,)

    @property
    def weight(self) -> float:
        """One answer."""
        return 1.0

    @property
    def labelled(self) -> int:
        """Tokens of the answer."""
        return self.answer.labelled


class PairStore(Lazy[Pair]):
    """Pairs in a store of their sequences, the chosen before the rejected."""

    def __init__(self) -> None:
        self._tokens, self._lengths = TokenStore(), array("i")

    def append(self, pair: Pair) -> None:
        """One more pair. OutputError where the disk takes no more."""
        self._tokens.append(pair.chosen)
        self._tokens.append(pair.rejected)
        self._lengths.append(pair.length)

    def sizes(self) -> Sizes:
        """Of all pairs so far; a pair is cut where one of its sequences is."""
        found = self._tokens.sizes()
        cut = np.logical_or(found.truncated[::2], found.truncated[1::2])
        return Sizes(np.array(self._lengths, dtype=np.int64), found.labelled.reshape(-1, 2).sum(1), cut)

    def __len__(self) -> int:
        return len(self._lengths)

    def at(self, place: int) -> Pair:
        """The pair at a place."""
        return Pair(self._tokens.at(2 * place), self._tokens.at(2 * place + 1))


class Margined(Lazy[Pair]):
    """Pairs with their margins."""

    def __init__(self, pairs: Sequence[Pair], margins: Sequence[float]):
        self._pairs, self._margins = pairs, margins

    def __len__(self) -> int:
        return len(self._pairs)

    def at(self, place: int) -> Pair:
        """The pair at a place."""
        return replace(self._pairs[place], margin=self._margins[place])


class JudgedStore(Lazy[Judged]):
    """Judged answers in a store of their sequences."""

    def __init__(self) -> None:
        self._tokens, self._good = TokenStore(), array("b")

    def append(self, one: Judged) -> None:
        """One more answer. OutputError where the disk takes no more."""
        self._tokens.append(one.answer)
        self._good.append(one.good)

    def sizes(self) -> Sizes:
        """Of all answers so far."""
        return self._tokens.sizes()

    def __len__(self) -> int:
        return len(self._good)

    def at(self, place: int) -> Judged:
        """The answer at a place."""
        return Judged(self._tokens.at(place), bool(self._good[place]))


Sequences = tuple[Encoded, ...] | TemplateError
"""A row's sequences of tokens: chosen and rejected, or the one judged answer."""


def encode_answers(
    tokenizer: Tokenizer, rows: Iterable[Preference | Labelled], portion: int = 256
) -> Iterator[Sequences]:
    """Every row's sequences, in order; a TemplateError in the place of a row that the template cannot show."""
    waiting = iter(rows)
    while some := list(islice(waiting, portion)):
        examples = [_examples(row) for row in some]
        encoded = iter(encode(tokenizer, [one for row in examples for one in row]))
        for row in examples:
            yield _all_or_error([next(encoded) for _ in row])


def _examples(row: Preference | Labelled) -> list[Example]:
    answers = (row.chosen, row.rejected) if isinstance(row, Preference) else ((row.answer,),)
    prompt = tuple(_asked(turn) for turn in row.prompt)
    return [
        Example.model_construct(messages=(*prompt, *answer), tools=row.tools, metadata={}, origin=row.origin)
        for answer in answers
    ]


def _asked(turn: Message) -> Message:
    """A turn of a prompt: nothing of it is learned."""
    return turn.model_copy(update={"weight": 0.0}) if turn.role == "assistant" else turn


def _all_or_error(made: Sequence[Encoded | TemplateError]) -> Sequences:
    refused = [one for one in made if isinstance(one, TemplateError)]
    return refused[0] if refused else tuple(one for one in made if isinstance(one, Encoded))


def _prompt(one: Encoded) -> int:
    """Tokens before the first of the answer."""
    labelled = np.flatnonzero(one.loss_weight)
    return int(labelled[0]) if len(labelled) else one.length
