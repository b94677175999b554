"""Text and spans to token arrays.

The text is cut at the spans' borders and each piece is tokenized by itself, in training and in serving alike.
No token therefore straddles the border between prompt and answer, and the prompt that was trained on is the
prompt that is served, token for token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example, Message
from .escape import Escape
from .template import (
    Rendered,
    TemplateError,
    Tokenizer,
    escape_for,
    render_example,
    render_prompt,
    render_unrolled,
    special_tokens,
)
from .words import token_ids


@dataclass(frozen=True)
class Encoded:
    """A row as tokens. Both arrays are [length]; `loss_weight[t]` weighs the prediction of token t, 0 for none."""

    input_ids: NDArray[np.int32]
    loss_weight: NDArray[np.float32]
    truncated: bool = False

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.input_ids)

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """Itself."""
        return (self,)

    @property
    def weight(self) -> float:
        """Sum of the loss weights: what the row counts in the mean over an optimizer step."""
        return float(self.loss_weight.sum(dtype="float64"))

    @property
    def labelled(self) -> int:
        """How many tokens carry loss."""
        return int(np.count_nonzero(self.loss_weight))

    def cut(self, max_length: int) -> Encoded:
        """The first `max_length` tokens."""
        if len(self.input_ids) <= max_length:
            return self
        return Encoded(self.input_ids[:max_length], self.loss_weight[:max_length], truncated=True)


Pieces = list[tuple[Example, Encoded]]
"""What a row is trained on as: most often itself, else one piece for each learned answer."""


def encode(tokenizer: Tokenizer, examples: Sequence[Example]) -> list[Encoded | TemplateError]:
    """Token arrays of training rows, each kept whole; a TemplateError in the place of one that cannot be shown so."""
    escape = escape_for(tokenizer)
    rendered: list[Rendered | TemplateError] = []
    for example in examples:
        try:
            rendered.append(_as_served(tokenizer, example, render_example(tokenizer, example, escape), escape))
        except TemplateError as error:
            rendered.append(error)
    whole = iter(encode_rendered(tokenizer, [r for r in rendered if isinstance(r, Rendered)]))
    return [r if isinstance(r, TemplateError) else next(whole) for r in rendered]


def encode_rows(
    tokenizer: Tokenizer, examples: Iterable[Example], portion: int = 512
) -> Iterator[tuple[Example, Pieces | TemplateError]]:
    """Every row with what `encode_unrolled` makes of it, in order, some rows at a time."""
    rows, escape = iter(examples), escape_for(tokenizer)
    while some := list(islice(rows, portion)):
        shown = [_shown(tokenizer, example, escape) for example in some]
        encoded = iter(encode_rendered(tokenizer, _all_rendered(shown)))
        for example, row in zip(some, shown, strict=True):
            yield example, row if isinstance(row, TemplateError) else [(piece, next(encoded)) for piece, _ in row]


def encode_unrolled(tokenizer: Tokenizer, examples: Sequence[Example]) -> list[Pieces | TemplateError]:
    """The pieces of each training row with their token arrays, most often the row itself; see `render_unrolled`.

    A TemplateError stands in the place of a row that cannot be shown.
    """
    return [pieces for _, pieces in encode_rows(tokenizer, examples, max(len(examples), 1))]


_Shown = list[tuple[Example, Rendered]] | TemplateError


def _shown(tokenizer: Tokenizer, example: Example, escape: Escape) -> _Shown:
    try:
        pieces = render_unrolled(tokenizer, example, escape)
        return [(piece, _as_served(tokenizer, piece, rendered, escape)) for piece, rendered in pieces]
    except TemplateError as error:
        return error


def _as_served(tokenizer: Tokenizer, example: Example, rendered: Rendered, escape: Escape) -> Rendered:
    """The row, if it begins with the very texts that its prompt is cut into when it is served, up to its last learned
    turn; else a TemplateError. Equal texts have equal tokens, and to compare texts costs a tenth of making tokens.

    Of a row with one answer and no cut the prompt is one text, which `render_example` has rendered and compared.
    """
    if not rendered.cuts and sum(message.role == "assistant" for message in example.messages) == 1:
        return rendered
    learned = [index for index, message in enumerate(example.messages) if message.learned]
    if learned:
        served, _ = _pieces(render_prompt(tokenizer, example.messages[: learned[-1]], example.tools, escape))
        trained, _ = _pieces(rendered)
        if trained[: len(served)] != served:
            raise TemplateError(
                f"the prompt of turn {learned[-1]} is cut into other tokens in training than when it is served"
            )
    return rendered


def _all_rendered(shown: Sequence[_Shown]) -> list[Rendered]:
    return [one for row in shown if not isinstance(row, TemplateError) for _, one in row]


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message], tools: Any = None) -> list[int]:
    """Token ids of what the model is given before it answers."""
    [encoded] = encode_rendered(tokenizer, [render_prompt(tokenizer, messages, tools)])
    ids: list[int] = encoded.input_ids.tolist()
    return ids


def end_of_turn_id(tokenizer: Tokenizer) -> int | None:
    """The special token that closes an assistant's turn in this template, and is therefore learned; None without one.

    Base models often carry a chat template whose mark neither the tokenizer nor the model lists among those that end.
    """
    said = Example(messages=(Message(role="user", content="a"), Message(role="assistant", content="b")))
    [encoded] = encode(tokenizer, [said])
    if isinstance(encoded, TemplateError) or not encoded.labelled:
        return None
    last = int(encoded.input_ids[np.flatnonzero(encoded.loss_weight)[-1]])
    return last if last in special_tokens(tokenizer) else None


def encode_text(tokenizer: Tokenizer, text: str) -> Encoded:
    """Plain text as the tokenizer marks it (with its start token where it adds one); all labelled but the first."""
    ids = list(tokenizer(text)["input_ids"])
    weight = np.ones(len(ids), dtype=np.float32)
    weight[:1] = 0
    return Encoded(np.array(ids, dtype=np.int32), weight)


def encode_rendered(tokenizer: Tokenizer, rendered: Sequence[Rendered]) -> list[Encoded]:
    """The tokens of texts, weighted by their spans: all pieces in one call, then each put together again."""
    pieces: list[str] = []
    weights: list[list[float]] = []
    for one in rendered:
        texts, loss = _pieces(one)
        pieces += texts
        weights.append(loss)
    ids = token_ids(tokenizer, pieces)
    of_piece = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)) // np.dtype(np.int32).itemsize
    flat = np.frombuffer(bytearray().join(ids), dtype=np.int32)
    weight = np.repeat(np.fromiter(chain.from_iterable(weights), dtype=np.float32, count=len(ids)), of_piece)
    piece_ends = np.append(0, np.cumsum(of_piece))
    bounds = piece_ends[np.append(0, np.cumsum([len(loss) for loss in weights], dtype=np.int64))].tolist()
    encoded = []
    for start, end in pairwise(bounds):
        mine = weight[start:end]
        mine[:1] = 0  # nothing predicts the first token
        encoded.append(Encoded(flat[start:end], mine))
    return encoded


def _pieces(rendered: Rendered) -> tuple[list[str], list[float]]:
    """The text cut at the spans' borders and within spellings of special tokens, and each piece's loss weight."""
    stretches, at = [], 0
    for span in rendered.spans:
        stretches += [(at, span.start, 0.0), (span.start, span.end, span.weight)]
        at = span.end
    texts: list[str] = []
    loss: list[float] = []
    for start, end, weight in (*stretches, (at, len(rendered.text), 0.0)):
        if start < end:
            borders = [start, *(cut for cut in rendered.cuts if start < cut < end), end]
            texts += [rendered.text[left:right] for left, right in pairwise(borders)]
            loss += [weight] * (len(borders) - 1)
    return texts, loss
