"""Documents to tokens, for pre-training: each with the token that opens it and the one that closes it.

Which these are is the tokenizer's word where it is clear. A start token that the chat template opens turns with is no
start of a document, and an end token that closes its turns is no end of one: then a `<|endoftext|>` (or Llama 3's
`<|end_of_text|>`) is taken, where the tokenizer has such a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..core.errors import ContentError, nearest
from ..core.messages import Message, Text
from .escape import Escape
from .packing import Ids, learned
from .template import Rendered, TemplateError, Tokenizer, escape_for, render, render_text, special_tokens
from .tokenize import Encoded, encode_rendered

_ENDS = ("<|endoftext|>", "<|end_of_text|>")
_ASKED = (Message(role="user", content="a"), Message(role="assistant", content="b"), Message(role="user", content="c"))


@dataclass(frozen=True)
class Marks:
    """Ids of the tokens that open and close a document; None for none."""

    start: int | None
    end: int | None

    @staticmethod
    def of(tokenizer: Tokenizer, start: str | None = "auto", end: str | None = "auto") -> Marks:
        """By name, or what the tokenizer has ("auto"), or none (None). ContentError for a token that it lacks."""
        special = special_tokens(tokenizer)
        turns = _turns(tokenizer)
        return Marks(
            _start(tokenizer, special, turns) if start == "auto" else _named(start, special, "document_start"),
            _end(tokenizer, special, turns) if end == "auto" else _named(end, special, "document_end"),
        )

    def around(self, ids: Ids) -> Ids:
        """The document with its marks, none of them twice."""
        before = self.start is not None and not (len(ids) and ids[0] == self.start)
        behind = self.end is not None and not (len(ids) and ids[-1] == self.end)
        parts = ([self.start] if before else [], ids, [self.end] if behind else [])
        return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])


def encode_documents(
    tokenizer: Tokenizer, rows: Iterable[Text], marks: Marks, portion: int = 256
) -> Iterator[Ids | TemplateError]:
    """The tokens of each document with its marks, in order, some at a time; a TemplateError in the place of a
    conversation that the template refuses. What spells a special token stays text, as in every row."""
    left, escape = iter(rows), escape_for(tokenizer)
    while some := list(islice(left, portion)):
        shown = [_shown(tokenizer, row, escape) for row in some]
        made = iter(encode_rendered(tokenizer, [one for one in shown if isinstance(one, Rendered)]))
        for one in shown:
            yield one if isinstance(one, TemplateError) else marks.around(next(made).input_ids)


def encode_document(tokenizer: Tokenizer, row: Text) -> Encoded:
    """One document with the tokenizer's own marks; all labelled but the first token. TemplateError as above."""
    [ids] = encode_documents(tokenizer, [row], Marks.of(tokenizer))
    if isinstance(ids, TemplateError):
        raise ids
    return learned(ids)


def _shown(tokenizer: Tokenizer, row: Text, escape: Escape) -> Rendered | TemplateError:
    try:
        return render_text(tokenizer, row, escape)
    except TemplateError as error:
        return error


def _turns(tokenizer: Tokenizer) -> str:
    """A conversation behind its first turn, as the template shows it: what stands there marks turns."""
    try:
        return render(tokenizer, _ASKED, None).partition("a")[2]
    except TemplateError:
        return ""


def _start(tokenizer: Tokenizer, special: dict[int, str], turns: str) -> int | None:
    found = tokenizer.bos_token_id
    return _end(tokenizer, special, turns) if found is not None and special.get(found, "") in turns else found


def _end(tokenizer: Tokenizer, special: dict[int, str], turns: str) -> int | None:
    found = tokenizer.eos_token_id
    if found is None or special.get(found, "") not in turns:
        return found
    ends = [number for name in _ENDS for number, token in special.items() if token == name]
    return next(iter(ends), found)


def _named(name: str | None, special: dict[int, str], key: str) -> int | None:
    if name is None:
        return None
    for number, token in special.items():
        if token == name:
            return number
    known: Sequence[str] = sorted(special.values())
    raise ContentError(
        f"method.{key}: the base's tokenizer has no special token '{name}'", where=f"method.{key}",
        mend=f"{nearest(name, known)}, or leave it at auto",
    )  # fmt: skip
