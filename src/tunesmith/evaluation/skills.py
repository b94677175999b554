"""What a model could do before it was tuned, asked again after: a small packaged suite for small bases.

Every item is a text and three ways to go on with it, of which the first is right. Nothing is generated: the model is
asked which one it finds likeliest a character (the length-normalised choice of Brown et al. 2020, arXiv 2005.14165,
section 2.4), so a base too small to follow an instruction can be asked too. A guess is right in a third.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.tokenize import Encoded
from ..engine.evaluate import row_losses

SUITE = Path(__file__).parent / "skills.jsonl"
CHOICES = 3


@dataclass(frozen=True)
class Item:
    """A text and how it may go on; the first choice is the right one."""

    skill: str
    text: str
    choices: tuple[str, ...]


@cache
def suite() -> tuple[Item, ...]:
    """The packaged items."""
    rows = map(json.loads, SUITE.read_text("utf-8").splitlines())
    return tuple(Item(row["skill"], row["text"], tuple(row["choices"])) for row in rows)


def mastered(
    model: Any, tokenizer: Any, *, pad_id: int, number_type: str, items: Sequence[Item] | None = None
) -> NDArray[np.bool_]:
    """Whether the model prefers the right choice of each item, bool [items]. A tie is not right."""
    items = suite() if items is None else items
    rows = [_encoded(tokenizer, item.text, choice) for item in items for choice in item.choices]
    sums, _ = row_losses(model, rows, pad_id=pad_id, number_type=number_type)
    letters = np.array([len(choice) for item in items for choice in item.choices])
    losses_NC = (sums / letters).reshape(len(items), -1)
    right: NDArray[np.bool_] = losses_NC[:, 0] < losses_NC[:, 1:].min(axis=1)
    return right


def _encoded(tokenizer: Any, text: str, choice: str) -> Encoded:
    """The text and, behind a space, the choice, which alone is labelled. Cut between the two, whatever stands there."""
    asked = list(tokenizer(text)["input_ids"])
    end = getattr(tokenizer, "eos_token_id", None)
    if asked and asked[-1] == end:  # T5 closes what it reads
        asked = asked[:-1]
    said = list(tokenizer(f" {choice}", add_special_tokens=False)["input_ids"])
    weight = np.zeros(len(asked) + len(said), dtype=np.float32)
    weight[len(asked) :] = 1
    return Encoded(np.array(asked + said, dtype=np.int32), weight)
