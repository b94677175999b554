"""What requests for answers share: contents, tools, sampling, usage, log-probabilities."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from .common import Ask, Reply


def _sound(value: Any) -> Any:
    """Free JSON that can be written again: not nested without end, every text whole characters."""
    try:
        orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise ValueError(f"cannot be read ({error})") from error
    return value


FreeJson = Annotated[dict[str, Any], AfterValidator(_sound)]
"""A JSON object that is the caller's own."""

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(max_length=4),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
"""One text that ends an answer, or up to four."""


class StreamOptions(Ask):
    """How a stream is sent."""

    include_usage: bool | None = None
    """Whether a last chunk tells the tokens."""
    include_obfuscation: bool | None = None
    """Taken and without effect."""


Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
"""Up to 16 pairs."""

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
LogitBias = dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")], Bias]
"""Numbers of tokens, as JSON has them for keys: as texts."""


class PromptDetails(Reply):
    """Of a prompt's tokens."""

    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Reply):
    """Of an answer's tokens."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Reply):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails = PromptDetails()
    completion_tokens_details: CompletionDetails = CompletionDetails()


def usage(prompt: int, completion: int) -> Usage:
    """Both and their sum."""
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class TopLogprob(Reply):
    """A token that could stand at a place."""

    token: str
    bytes: list[int]
    logprob: float


class TokenLogprob(TopLogprob):
    """A token of an answer."""

    top_logprobs: list[TopLogprob]
