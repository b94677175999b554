"""Chat completions on the wire: what is answered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .asking import TokenLogprob, Usage
from .common import Reply

Finish = Literal["stop", "length", "tool_calls"]


class ReplyFunction(Reply):
    """What is called."""

    name: str
    arguments: str


class ReplyCall(Reply):
    """A call that the model made."""

    id: str
    type: Literal["function"] = "function"
    function: ReplyFunction


class ReplyMessage(Reply):
    """The model's turn."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    annotations: list[dict[str, Any]] = Field(default_factory=list)
    tool_calls: list[ReplyCall] | None = None


class Logprobs(Reply):
    """Of an answer's tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class Choice(Reply):
    """One answer."""

    index: int
    message: ReplyMessage
    logprobs: Logprobs | None
    finish_reason: Finish


class ChatCompletion(Reply):
    """All answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    service_tier: Literal["default"] = "default"
    system_fingerprint: str | None = None


class DeltaCall(ReplyCall):
    """A call in a stream; it comes whole."""

    index: int


class Delta(Reply):
    """What is new of a message; only what is set is sent."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[DeltaCall] | None = None


class ChunkChoice(Reply):
    """What is new of one answer."""

    index: int
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: Finish | None = None


class Chunk(Reply):
    """The next part of the answers. With `include_usage` each has a `usage`, which only the last one fills."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    service_tier: Literal["default"] = "default"
    system_fingerprint: str | None = None
