"""The checks behind the audit: each looks at rows and gives the findings it has. None changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from .audit import Finding
from .load import Loaded
from .template import Rendered, TemplateError, Tokenizer, render_prompt, special_tokens
from .tokenize import Encoded, encode_prompt

PROMPTS_COMPARED = 200


def bad_rows(loaded: Loaded) -> Iterator[Finding]:
    """Rows that cannot be used, grouped by reason."""
    reasons: dict[str, list[str]] = {}
    for problem in loaded.problems:
        reasons.setdefault(problem.reason, []).append(problem.place)
    for reason, places in reasons.items():
        yield Finding(
            "bad_row", "block", f"row cannot be used: {reason}", "correct or remove these rows", tuple(places)
        )


def duplicates(examples: Sequence[Example]) -> Iterator[Finding]:
    """Rows that say the same again, and rows that answer the same prompt differently."""
    answers: dict[str, dict[str, str]] = {}
    same, differing = [], []
    for example in examples:
        known = answers.setdefault(example.prompt_key(), {})
        answer = " ".join(example.answer().split())
        if answer in known:
            same.append(example.origin)
        elif known:
            differing.append(example.origin)
        known.setdefault(answer, example.origin)
    if same:
        yield Finding(
            "duplicate_rows", "warn", "row repeats an earlier one (same prompt, same answer)",
            "remove the repetitions, unless the weight is meant", tuple(same),
        )  # fmt: skip
    if differing:
        yield Finding(
            "conflicting_answers", "warn", "row answers an earlier row's prompt differently",
            "decide on one answer for each prompt, unless several are right", tuple(differing),
        )  # fmt: skip


def overlap(
    pairs: Sequence[tuple[int, int]],
    train: Sequence[Example],
    other: Sequence[Example],
    role: str,
    policy: str,
) -> Iterator[Finding]:
    """Training rows whose prompt is among the held-out rows."""
    if not pairs:
        return
    places = tuple(f"{train[i].origin} = {other[j].origin}" for i, j in pairs)
    if policy == "drop":
        yield Finding(
            "overlap_dropped", "warn", f"training row left out: its prompt is also in the {role} file",
            "nothing to do; remove them from the training file to silence this", places,
        )  # fmt: skip
    else:
        yield Finding(
            "overlap", "block", f"the prompt of this training row is also in the {role} file",
            "remove these rows from one side, or set data.on_overlap: drop", places,
        )  # fmt: skip


def held_out_overlap(
    pairs: Sequence[tuple[int, int]], validation: Sequence[Example], test: Sequence[Example]
) -> Iterator[Finding]:
    """Validation rows whose prompt is among the test rows: the checkpoint would be chosen on the test."""
    if pairs:
        yield Finding(
            "overlap_held_out", "block", "the prompt of this validation row is also in the test file",
            "remove these rows from the validation file",
            tuple(f"{validation[i].origin} = {test[j].origin}" for i, j in pairs),
        )  # fmt: skip


def unrenderable(examples: Sequence[Example], encoded: Sequence[object]) -> Iterator[Finding]:
    """Rows that the tokenizer's chat template refuses: those with a TemplateError in their place."""
    reasons: dict[str, list[str]] = {}
    for example, one in zip(examples, encoded, strict=True):
        if isinstance(one, TemplateError):
            reasons.setdefault(str(one), []).append(example.origin)
    for reason, places in reasons.items():
        yield Finding(
            "template_refuses",
            "block",
            reason,
            "change these rows to what the base's template takes",
            tuple(places),
        )


def unrolled(
    examples: Sequence[Example], pieces: Sequence[Sequence[object] | TemplateError], *, last_only: bool
) -> Iterator[Finding]:
    """Rows whose learned turns the template shows otherwise in the full conversation than when they are served."""
    split = [
        (example, len(row))
        for example, row in zip(examples, pieces, strict=True)
        if not isinstance(row, TemplateError) and len(row) > 1
    ]
    if not split:
        return
    why = "the chat template shows earlier answers otherwise than when they were given (without their thinking, say)"
    done = (
        "its last answer alone is scored"
        if last_only
        else f"it became one example for each answer ({sum(n for _, n in split)} in all), each as it will be served"
    )
    places = tuple(example.origin for example, _ in split)
    yield Finding("unrolled", "info", f"{why}: {done}", "nothing to do", places)


def too_long(
    examples: Sequence[Example], encoded: Sequence[Encoded], max_length: int, policy: str
) -> Iterator[Finding]:
    """Rows over the length limit, and what becomes of them."""
    long = [
        (e.origin, len(c.input_ids)) for e, c in zip(examples, encoded, strict=True) if len(c.input_ids) > max_length
    ]
    if not long:
        return
    longest = max(length for _, length in long)
    places = _rows(place for place, _ in long)
    message = f"row is longer than {max_length} tokens (the longest has {longest})"
    if policy == "error":
        yield Finding(
            "too_long", "block", message,
            "shorten them, raise training.max_length if the base takes more, or set data.on_long: drop or truncate",
            places,
        )  # fmt: skip
    else:
        done = {"drop": "left out", "truncate": "cut at the end"}[policy]
        yield Finding(f"long_{policy}", "warn", f"{message}; {done}", "shorten them to learn from all of them", places)


def no_supervision(examples: Sequence[Example], encoded: Sequence[Encoded]) -> Iterator[Finding]:
    """Rows in which no token carries loss, for instance because the answer was cut off."""
    places = _rows(e.origin for e, c in zip(examples, encoded, strict=True) if c.labelled == 0)
    if places:
        yield Finding(
            "no_supervision", "block", "no token of this row carries loss: it would teach nothing",
            "shorten the prompt, raise training.max_length, or remove the row", places,
        )  # fmt: skip


def end_of_turn(examples: Sequence[Example], encoded: Sequence[Encoded], tokenizer: Tokenizer) -> Iterator[Finding]:
    """Rows with a learned turn whose last token is no end mark: the model would not learn to stop."""
    special = list(special_tokens(tokenizer))
    places = _rows(
        example.origin
        for example, one in zip(examples, encoded, strict=True)
        if not np.isin(one.input_ids[_turn_ends(one)], special).all()
    )
    if places:
        yield Finding(
            "no_end_of_turn", "warn", "the answer does not end in an end-of-turn token: the model may never stop",
            "use a chat template that closes the assistant's turn with a special token", places,
        )  # fmt: skip


def _turn_ends(one: Encoded) -> NDArray[np.intp]:
    """Where the stretches of labelled tokens end; one that the length limit cut off has no end."""
    labelled = one.loss_weight > 0
    ends = np.flatnonzero(labelled & ~np.append(labelled[1:], False))
    return ends[ends < len(labelled) - 1] if one.truncated else ends


def served_prompt(examples: Sequence[Example], tokenizer: Tokenizer) -> Iterator[Finding]:
    """Prompts that another server, which tokenizes the whole text at once, would cut into other tokens."""
    places = []
    for example in examples[:PROMPTS_COMPARED]:
        try:
            ours = encode_prompt(tokenizer, example.prompt(), example.tools)
            text: Rendered = render_prompt(tokenizer, example.prompt(), example.tools)
        except TemplateError:
            continue
        # What spells a special token is told by itself, and others do cut it otherwise.
        if not text.cuts and ours != list(tokenizer(text.text, add_special_tokens=False)["input_ids"]):
            places.append(example.origin)
    if places:
        yield Finding(
            "prompt_tokens_differ", "warn",
            "other servers would cut this prompt into other tokens than it was trained with",
            "serve the model with Tunesmith, or use a template with special tokens between the turns", _rows(places),
        )  # fmt: skip


def _rows(places: Iterable[str]) -> tuple[str, ...]:
    """Each place once, though several pieces of an unrolled row, which follow each other, may have the trouble."""
    return tuple(place for place, _ in groupby(places))
