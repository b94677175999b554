"""Completions, the older call: a text is continued."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .asking import LogitBias, Penalty, Seed, Stop, StreamOptions, Temperature, TopP, Usage, WholeAsk
from .common import Name, Reply

MOST_INPUTS = 2048
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


def _several(value: Any) -> Any:
    """One prompt, as text or as tokens, stands for a list of one."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return [value]
    return value


Prompts = Annotated[
    list[str | Tokens],
    Field(min_length=1, max_length=MOST_INPUTS),
    BeforeValidator(_several, json_schema_input_type=str | list[str] | Tokens | list[Tokens]),
]
"""A text, texts, tokens, or lists of tokens."""


class CompletionAsk(WholeAsk):
    """Texts to be continued."""

    model: Name
    prompt: Prompts
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    """0 is for `echo`: the prompt is scored, and nothing is written."""
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: None = None
    """Models here continue a text and insert nothing into one."""
    temperature: Temperature | None = None
    top_p: TopP | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> CompletionAsk:
        if self.stream_options is not None and not self.stream:
            raise ValueError("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ValueError("'best_of' must be at least 'n'")
        if self.stream and (self.best_of or 1) > (self.n or 1):
            raise ValueError("'best_of' greater than 'n' cannot be streamed")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("'max_tokens' can be 0 only with 'echo'")
        return self


class CompletionLogprobs(Reply):
    """Of a text's tokens, one entry each."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """Where each begins, in characters."""


class CompletionChoice(Reply):
    """One text; in a stream the next part of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class Completion(Reply):
    """All texts; in a stream the next part of some."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
