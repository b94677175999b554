"""Texts to what pre-training learns: packed rows to learn from, whole documents to be scored on."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from ..core.errors import ContentError
from ..core.events import Sink, counted
from ..core.messages import Text
from ..data.documents import Marks, encode_documents
from ..data.packing import PACKERS, Ids, Pieces
from ..data.template import TemplateError
from ..methods.pretrain.config import PretrainSpec
from .made import Made


def packed(
    rows: Sequence[Text], counts: Sequence[int], tokenizer: Any, limit: int, method: PretrainSpec, seed: int, sink: Sink
) -> Made:
    """Rows of `limit` tokens that hold every document as often as `counts` says. What the template refuses, the audit
    tells."""
    if limit < 2:
        raise ContentError(
            "training.max_length is 1: there is nothing to predict", where="training.max_length",
            mend="set it to what the base takes: auto",
        )  # fmt: skip
    used, lengths = array("q"), array("q")

    def documents() -> Iterator[tuple[Ids, int]]:
        for place, ids in _documents(rows, tokenizer, method, sink):
            used.append(place)
            lengths.append(len(ids))
            yield ids, counts[place]

    found = PACKERS[method.pack](documents(), limit, seed)
    return Made(found, found.sizes, [1] * len(found), used.tolist(), lengths.tolist())


def whole(rows: Sequence[Text], tokenizer: Any, method: PretrainSpec, sink: Sink) -> Made:
    """Each document by itself, however long."""
    kept, used = Pieces(), array("q")
    for place, ids in _documents(rows, tokenizer, method, sink):
        kept.append(ids)
        used.append(place)
    sizes = kept.sizes()
    return Made(kept, sizes, [1] * len(kept), used.tolist(), sizes.lengths.tolist())


def _documents(
    rows: Sequence[Text], tokenizer: Any, method: PretrainSpec, sink: Sink
) -> Iterator[tuple[int, Ids]]:  # fmt: skip
    """(place, tokens) of every document that says anything: of one token nothing can be learned."""
    marks = Marks.of(tokenizer, method.document_start, method.document_end)
    encoded = encode_documents(tokenizer, rows, marks)
    for place, ids in enumerate(counted(encoded, sink, "rows tokenized", len(rows))):
        if not isinstance(ids, TemplateError) and len(ids) > 1:
            yield place, ids
