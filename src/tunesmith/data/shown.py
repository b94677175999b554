"""A row as the model sees it: its tokens as text, which of them carry loss, which are special."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

from .audit import Audit, place_of
from .template import Tokenizer, special_tokens
from .tokenize import Encoded

_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8, and so the most tokens that it can be cut into."""


@dataclass(frozen=True)
class Piece:
    """One token; several where only together they are whole characters."""

    text: str
    ids: tuple[int, ...]
    weight: float
    """In the loss; 0 for a token that the model is given."""
    special: bool


def pieces(tokenizer: Tokenizer, encoded: Encoded) -> Iterator[Piece]:
    """The row token by token. Each is decoded behind the one before it, for some decoders strip what begins a text."""
    special = special_tokens(tokenizer)
    before: list[int] = []
    held: list[int] = []
    ids, weights = encoded.input_ids.tolist(), encoded.loss_weight.tolist()
    for place, (token, weight) in enumerate(zip(ids, weights, strict=True)):
        held.append(token)
        text = _decoded(tokenizer, [*before, *held])
        going_on = place + 1 < len(ids) and token not in special
        if text.endswith("\ufffd") and going_on and len(held) < _LONGEST_CHARACTER:
            continue
        yield Piece(text[len(_decoded(tokenizer, before)) :], tuple(held), weight, token in special)
        before, held = held, []


def _decoded(tokenizer: Tokenizer, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)) if ids else ""


def chosen(audit: Audit, origins: Sequence[str], most: int) -> list[int]:
    """Rows worth a look: by turns the first places of each finding, the severe ones first; then the file's first rows.

    `origins` are the rows that there are; a row that could not be read is not among them.
    """
    first: dict[str, int] = {}
    for index, origin in enumerate(origins):
        first.setdefault(origin, index)
    places = ((first[p] for p in map(place_of, f.rows) if p in first) for f in audit.ordered())
    told = zip_longest(*(list(islice(mine, most)) for mine in places))
    by_turns = [index for turn in told for index in turn if index is not None]
    return list(dict.fromkeys([*by_turns, *range(min(most, len(origins)))]))[:most]


def codes_of(audit: Audit, origin: str) -> list[str]:
    """What was found at a row, the severe first."""
    return list(dict.fromkeys(f.code for f in audit.ordered() if any(place_of(p) == origin for p in f.rows)))
