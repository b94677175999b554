"""Embeddings on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .asking import WholeAsk
from .common import Name, Reply
from .completions import Prompts


class EmbeddingAsk(WholeAsk):
    """Texts, or tokens, to be placed."""

    input: Prompts
    model: Name
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Only what the model has anyway."""
    user: str | None = None


class Embedding(Reply):
    """Where one text lies: a vector of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers; or base64 of little-endian float32."""


class EmbeddingUsage(Reply):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Reply):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
