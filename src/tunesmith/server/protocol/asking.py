"""What requests for answers share: contents, tools, sampling, usage, log-probabilities."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from .common import Ask, Reply


class WholeAsk(Ask):
    """A request whose texts are whole characters and whose numbers are those of JSON's writers.

    Python reads half of a character (`"\\ud800"`), nesting without end and numbers of any size; tokenizers, templates
    and databases do not.
    """

    @model_validator(mode="before")
    @classmethod
    def _sound(cls, body: Any) -> Any:
        try:
            orjson.dumps(body)
        except (TypeError, orjson.JSONEncodeError) as error:
            raise ValueError(f"The body of your request cannot be read: {error}.") from error
        return body


FreeJson = dict[str, Any]
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
