"""Embeddings: texts as vectors."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Sequence

from fastapi import Request

from ...core.errors import TunesmithError
from ..access import Caller, Serving
from ..answering import refusal
from ..errors import invalid
from ..protocol.embeddings import Embedding, EmbeddingAsk, Embeddings, EmbeddingUsage
from ..routing import Routes
from ..underway import unless_gone

routes = Routes(prefix="/v1", tags=["embeddings"])


@routes.post("/embeddings", scope="infer", errors=(404,))
async def create(request: Request, asked: EmbeddingAsk, who: Caller, services: Serving) -> Embeddings:
    """A vector of length 1 for each input: the mean of the model's last hidden states over its tokens."""
    if "" in asked.input:
        raise invalid("'input' cannot be an empty string.", "input")
    found = await services.answerer.soon(lambda answerer: answerer.embed(who.project_id, asked.model, asked.input))
    try:
        vectors, tokens = await unless_gone(request, _waited(asyncio.wrap_future(found)))
    except TunesmithError as error:
        raise refusal(error, asked.model, {"prompt": "input"}) from error
    if asked.dimensions not in (None, len(vectors[0])):
        raise invalid("This model does not support specifying dimensions.", "dimensions")
    services.rates.tokens(who.key_id, tokens)
    services.meters.tokens.labels("prompt").inc(tokens)
    data = [
        Embedding(index=index, embedding=_base64(vector) if asked.encoding_format == "base64" else list(vector))
        for index, vector in enumerate(vectors)
    ]
    return Embeddings(data=data, model=asked.model, usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens))


async def _waited(future: asyncio.Future[tuple[list[list[float]], int]]) -> tuple[list[list[float]], int]:
    return await future


def _base64(vector: Sequence[float]) -> str:
    """Little-endian float32, as clients read it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
