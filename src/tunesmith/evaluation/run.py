"""Answers and losses of one model on the test rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.messages import Example, spoken
from ..data.packing import learned, pieces
from ..data.tokenize import Encoded, encode_prompt
from ..engine.evaluate import row_losses
from ..inference.generate import Answer, Sampling, generate
from .answers import Answers, Recall


@dataclass(frozen=True)
class TestSet:
    """Held-out rows, as conversations and as tokens."""

    examples: Sequence[Example]
    encoded: Sequence[Encoded]
    prompts: Sequence[Sequence[int]]

    @staticmethod
    def of(examples: Sequence[Example], encoded: Sequence[Encoded], tokenizer: Any) -> TestSet:
        """Encode the prompts: everything before the last assistant turn, as it would be served."""
        return TestSet(examples, encoded, [encode_prompt(tokenizer, e.prompt(), e.tools) for e in examples])


def answer_rows(
    model: Any,
    tokenizer: Any,
    test: TestSet,
    *,
    max_tokens: int,
    stop_ids: set[int],
    context: int | None,
    number_type: str,
    on_progress: Callable[[int], None] | None = None,
    recall: Recall | None = None,
) -> Answers:
    """Greedy answers to every prompt, thinking left out, and the loss of every reference answer, thinking included.

    What `recall` knows is not asked again.
    """
    decoding = {"max_tokens": max_tokens, "temperature": 0, "stop": sorted(stop_ids), "context": context}
    known = [recall.get(prompt, decoding) if recall else None for prompt in test.prompts]
    prompts = [prompt for prompt, found in zip(test.prompts, known, strict=True) if found is None]
    made = generate(
        model, prompts, Sampling(max_tokens=max_tokens), pad_id=tokenizer.pad_token_id, stop_ids=stop_ids,
        context=context, on_progress=on_progress,
    )  # fmt: skip
    answers = list(zip(_texts(tokenizer, made), [one.finish_reason == "stop" for one in made], strict=True))
    if recall and answers:
        recall.put(prompts, answers, decoding)
    new = iter(answers)
    said = [next(new) if found is None else found for found in known]
    scored = score_rows(model, test.encoded, pad_id=tokenizer.pad_token_id, number_type=number_type)
    return replace(
        scored, texts=[text for text, _ in said], finished=[end for _, end in said], reused=len(said) - len(answers)
    )


def draw_rows(
    model: Any, tokenizer: Any, test: TestSet, sampling: Sampling, times: int, *, stop_ids: set[int],
    context: int | None,
) -> list[list[str]]:  # fmt: skip
    """`times` answers to every prompt, drawn under `sampling`, the seed rising by one with each."""
    how: dict[str, Any] = {"pad_id": tokenizer.pad_token_id, "stop_ids": stop_ids, "context": context}
    rounds = [
        _texts(tokenizer, generate(model, test.prompts, replace(sampling, seed=sampling.seed + number), **how))
        for number in range(times)
    ]
    return [list(row) for row in zip(*rounds, strict=True)]


def _texts(tokenizer: Any, answers: Sequence[Answer]) -> list[str]:
    return [spoken(tokenizer.decode(a.token_ids, skip_special_tokens=True)).strip() for a in answers]


def score_documents(
    model: Any, documents: Sequence[Encoded], *, limit: int, pad_id: int, number_type: str
) -> Answers:  # fmt: skip
    """The losses of whole documents, those longer than `limit` tokens in pieces that each begin anew."""
    parts = [[learned(piece) for piece in pieces(one.input_ids, limit)] for one in documents]
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    sums, counts = row_losses(model, [one for part in parts for one in part], pad_id=pad_id, number_type=number_type)
    total = np.bincount(owner, sums, len(parts)).astype(np.float64)
    tokens = np.bincount(owner, counts, len(parts)).astype(np.int64)
    return Answers([""] * len(parts), [False] * len(parts), total, tokens)


def score_rows(model: Any, encoded: Sequence[Encoded], *, pad_id: int, number_type: str) -> Answers:
    """The losses alone, with empty answers: where nothing is asked of what the model would say."""
    sums, counts = row_losses(model, encoded, pad_id=pad_id, number_type=number_type)
    return Answers([""] * len(encoded), [False] * len(encoded), sums, counts)
