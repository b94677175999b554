"""What is asked of the answering service, and what comes back piece by piece. Loads no torch.

Nothing here is of any wire format: a face turns requests into `Ask`s and `Piece`s into its own shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..adapters.config import AdapterSpec
from ..core.messages import Message
from ..models.refs import Base
from .sampling import Sampling

NumberType = Literal["fp32", "bf16"]
Finish = Literal["stop", "length", "tool_calls"]
ToolChoice = Literal["none", "auto", "required"]


@dataclass(frozen=True)
class Served:
    """A model that can be asked: a base, alone or with an adapter.

    A fully trained or merged model is a base of its own, with its own folder. Equal ones share memory whatever their
    names; all LoRAs on one base (folder and number type) share that base.
    """

    name: str
    """What people call it; for messages alone."""
    base: Base
    adapter: Path | None = None
    """A folder in PEFT's layout."""
    spec: AdapterSpec | None = None
    """How the adapter was made, for those that cannot share a base: every family but plain LoRA."""
    number_type: NumberType = "fp32"
    date: str | None = None
    """The day that the chat template shows, YYYY-MM-DD; None is today."""


@dataclass(frozen=True)
class Constraint:
    """What the whole answer must be. `json_object` any JSON object, `json_schema` a value that fits `schema`."""

    type: Literal["json_object", "json_schema"]
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Named:
    """The one tool that must be called."""

    name: str


@dataclass(frozen=True)
class Ask:
    """One request.

    `messages` go through the model's chat template. With `prompt` there is none: its text (cut into tokens as the
    tokenizer marks plain text) or its tokens are continued.
    """

    model: Served
    sampling: Sampling
    messages: Sequence[Message] = ()
    prompt: str | Sequence[int] | None = None
    n: int = 1
    """Answers wanted. The first is drawn with the sampling's seed, the others with seeds made from it."""
    stop: Sequence[str] = ()
    """Texts that end an answer, and are left out of it."""
    logprobs: int | None = None
    """None for no log-probabilities; else how many of the likeliest tokens are told beside the chosen one."""
    prompt_logprobs: bool = False
    """Whether the first piece tells those of the prompt's tokens too, with as many alternatives."""
    constraint: Constraint | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    """In the wire form, `{"type": "function", "function": {...}}`."""
    tool_choice: ToolChoice | Named = "auto"
    parallel_tool_calls: bool = True
    key: str = ""
    """Whose request it is: waiting requests of different keys are taken in turn."""


@dataclass(frozen=True)
class Alternative:
    """A token that could stand at a place."""

    token_id: int
    token: str
    """Its text; bytes that are no whole character are shown as U+FFFD."""
    bytes: bytes
    logprob: float | None
    """Natural logarithm of the model's own probability: before temperature, penalties, bias and constraints. None for
    the first token of a prompt, which nothing predicts."""


@dataclass(frozen=True)
class TokenLogprob(Alternative):
    """A token of an answer."""

    top: tuple[Alternative, ...] = ()
    """The likeliest tokens of this place, likeliest first."""


@dataclass(frozen=True)
class ToolCall:
    """A call that the model wrote. `arguments` is JSON text, as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Piece:
    """The next part of one answer. The last one of each answer has a `finish_reason`."""

    index: int = 0
    """Which of the `n` answers."""
    text: str = ""
    """Whole characters; what could be the beginning of a stop text or of a tool call is held back."""
    token_ids: tuple[int, ...] = ()
    """Tokens made since the last piece; the text of some may come later, that of a stop text's never."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """One for each of `token_ids`, where they are asked for."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls that are complete now."""
    finish_reason: Finish | None = None
    prompt: tuple[TokenLogprob, ...] = ()
    """Of the prompt's tokens; in the first piece of the first answer."""


@dataclass
class Usage:
    """Tokens: of the prompt once, and of all answers so far, without stop tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Choice:
    """A whole answer."""

    text: str
    finish_reason: Finish
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    prompt: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What the service takes on."""

    waiting: int = 256
    """Answers (`n` counts) that may wait at once."""
    rows: int = 32
    """Answers that are written at once, all batches together."""
    tokens: int = 131_072
    """Tokens, prompts and the most that answers may have, of all answers that are written at once: what their caches
    can come to. One answer alone may have more."""
    batches: int = 4
    """Batches that are at work at once, one token each in turn."""
    prompt_tokens: int = 32_768
    answer_tokens: int = 8_192
    """An answer is cut there, and where the model's context ends, with the finish reason `length`."""
    answers: int = 128
    """The largest `n`."""
    memory: int = 8 << 30
    """Bytes of weights, bases and adapters together."""


@dataclass(frozen=True)
class Load:
    """How things stand. Adapters and bases by the names that they were first asked under."""

    waiting: int = 0
    running: int = 0
    loaded: Mapping[str, int] = field(default_factory=dict)
    """Bytes by name."""
