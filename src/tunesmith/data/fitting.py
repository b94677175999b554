"""Tokenized rows that can be trained on, and what there is to tell of those that cannot, or only in part."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from .audit import Finding, Supervision
from .supervision import Measure
from .template import TemplateError, Tokenizer, special_tokens
from .tokenize import Encoded, Pieces

LongPolicy = Literal["error", "drop", "truncate"]


class Fitting:
    """Takes row by row what the template made of it; remembers places, never tokens.

    A row may come as several pieces (see `render_unrolled`): each of them counts, or with `last_only` the last.
    """

    def __init__(
        self, tokenizer: Tokenizer, max_length: int, policy: LongPolicy, *, last_only: bool = False,
        keep_untaught: bool = True,
    ):  # fmt: skip
        self._max_length, self._policy = max_length, policy
        self._last_only, self._keep_untaught = last_only, keep_untaught
        self._measure = Measure(max_length, drop=policy == "drop")
        self._special = frozenset(special_tokens(tokenizer))
        self._lengths = array("i")
        self._refused: dict[str, list[str]] = {}
        self._unrolled: list[str] = []
        self._answers = self._longest = 0
        self._long: dict[str, None] = {}
        self._untaught: dict[str, None] = {}
        self._endless: dict[str, None] = {}

    def take(self, example: Example, shown: Pieces | TemplateError) -> Pieces:
        """The pieces of the row to go on with, none longer than the limit."""
        if isinstance(shown, TemplateError):
            self._refused.setdefault(str(shown), []).append(example.origin)
            return []
        if len(shown) > 1:
            self._unrolled.append(example.origin)
            self._answers += len(shown)
        taken = ((piece, self._fitted(piece, one)) for piece, one in (shown[-1:] if self._last_only else shown))
        return [(piece, one) for piece, one in taken if one]

    def _fitted(self, piece: Example, one: Encoded) -> Encoded | None:
        self._measure.see(one)
        length = len(one.input_ids)
        self._lengths.append(length)
        if length > self._max_length:
            self._long[piece.origin] = None
            self._longest = max(self._longest, length)
            if self._policy == "drop":
                return None
            one = one.cut(self._max_length)
        if not one.labelled:
            self._untaught[piece.origin] = None
            return one if self._keep_untaught else None
        if not self._special.issuperset(one.input_ids[_turn_ends(one)].tolist()):
            self._endless[piece.origin] = None
        return one

    def supervision(self) -> Supervision:
        """How much of the rows carries loss, as far as they were taken."""
        return replace(self._measure.result(), no_end_of_turn=len(self._endless))

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of all pieces before any is cut or left out, int64 [pieces]."""
        return np.array(self._lengths, dtype=np.int64)

    def findings(self, *, ends: bool) -> Iterator[Finding]:
        """What is to be told; with `ends`, of answers without an end mark too."""
        for reason, places in self._refused.items():
            mend = "change these rows to what the base's template takes"
            yield Finding("template_refuses", "block", reason, mend, tuple(places))
        yield from self._told_unrolled()
        yield from self._told_long()
        if self._untaught:
            yield Finding(
                "no_supervision", "block", "no token of this row carries loss: it would teach nothing",
                "shorten the prompt, raise training.max_length, or remove the row", tuple(self._untaught),
            )  # fmt: skip
        if ends and self._endless:
            yield Finding(
                "no_end_of_turn", "warn", "the answer does not end in an end-of-turn token: the model may never stop",
                "use a chat template that closes the assistant's turn with a special token", tuple(self._endless),
            )  # fmt: skip

    def _told_unrolled(self) -> Iterator[Finding]:
        """Rows whose learned turns the template shows otherwise in the full conversation than when they are served."""
        if not self._unrolled:
            return
        why = (
            "the chat template shows earlier answers otherwise than when they were given (without their thinking, say)"
        )
        done = (
            "its last answer alone is scored"
            if self._last_only
            else f"it became one example for each answer ({self._answers} in all), each as it will be served"
        )
        yield Finding("unrolled", "info", f"{why}: {done}", "nothing to do", tuple(self._unrolled))

    def _told_long(self) -> Iterator[Finding]:
        """Rows over the length limit, and what becomes of them."""
        if not self._long:
            return
        yield too_long(tuple(self._long), self._longest, self._max_length, self._policy)


def too_long(places: tuple[str, ...], longest: int, limit: int, policy: LongPolicy) -> Finding:
    """Rows over the length limit, and what becomes of them."""
    message = f"row is longer than {limit} tokens (the longest has {longest})"
    if policy == "error":
        mend = "shorten them, raise training.max_length if the base takes more, or set data.on_long: drop or truncate"
        return Finding("too_long", "block", message, mend, places)
    done = {"drop": "left out", "truncate": "cut at the end"}[policy]
    return Finding(
        f"long_{policy}", "warn", f"{message}; {done}", "shorten them to learn from all of them", places
    )  # fmt: skip


def _turn_ends(one: Encoded) -> NDArray[np.intp]:
    """Where the stretches of labelled tokens end; one that the length limit cut off has no end."""
    labelled = one.loss_weight > 0
    ends = np.flatnonzero(labelled & ~np.append(labelled[1:], False))
    return ends[ends < len(labelled) - 1] if one.truncated else ends
