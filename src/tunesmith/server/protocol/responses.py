"""Responses on the wire: what is asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from .asking import FreeJson, Metadata, Temperature, ToolName, TopP, WholeAsk
from .common import Ask, Name

LOGPROBS = "message.output_text.logprobs"
"""What `include` must hold for log-probabilities."""


class InputPart(Ask):
    """A part of a message: text that was given or said. Models here read nothing else."""

    type: Literal["input_text", "output_text", "text", "refusal"]
    text: str = ""
    refusal: str = ""
    annotations: list[FreeJson] | None = None
    """Taken and without effect, as are the log-probabilities: they come back in what this server answered."""
    logprobs: list[FreeJson] | None = None


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise ValueError("must be a text or a list of content parts")
    return value


Content = Annotated[list[InputPart], BeforeValidator(_parts, json_schema_input_type=str | list[InputPart])]


def text_of(parts: list[InputPart]) -> str:
    """All parts together."""
    return "".join(part.text or part.refusal for part in parts)


class MessageItem(Ask):
    """A turn of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class CallItem(Ask):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    """JSON text."""
    id: str | None = None
    status: str | None = None


class OutputItem(Ask):
    """What came of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content
    id: str | None = None
    status: str | None = None


def _kind(item: Any) -> str | None:
    """A message may leave its type out."""
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else None


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")],
    Discriminator(_kind),
]


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


Items = Annotated[list[Item], Field(min_length=1), BeforeValidator(_items, json_schema_input_type=str | list[Item])]


class FunctionTool(Ask):
    """A function that may be called."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: FreeJson | None = None
    strict: bool | None = None
    """Taken and without effect: a call that must be made always fits the schema, one that may be made never has to."""


class TextFormat(Ask):
    """What an answer must be."""

    type: Literal["text", "json_object", "json_schema"]
    name: ToolName | None = None
    description: str | None = None
    schema_: FreeJson | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _with_schema(self) -> TextFormat:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("'schema' must be given where the type is json_schema, and nowhere else")
        return self


class TextOptions(Ask):
    """How the text is to be."""

    format: TextFormat | None = None
    verbosity: str | None = None
    """Taken and without effect."""


class ChosenFunction(Ask):
    """The one function to call, or one of those that may be."""

    type: Literal["function"]
    name: ToolName


class AllowedFunctions(Ask):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenFunction], Field(min_length=1)]


class ResponseStreamOptions(Ask):
    """How a stream is sent."""

    include_obfuscation: bool | None = None
    """Taken and without effect."""


class ResponseAsk(WholeAsk):
    """A conversation to be continued. What has no effect here is taken, so that clients need no change."""

    model: Name
    input: Items
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(max_length=80)] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | AllowedFunctions | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=16)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    store: bool | None = None
    """False: it cannot be retrieved, and none can stand on it."""
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: FreeJson | None = None
    service_tier: str | None = None
    reasoning: FreeJson | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """Nothing is ever left out: what is too long is refused."""
    max_tool_calls: int | None = None
    background: Literal[False] | None = None
    conversation: None = None
    prompt: None = None

    @field_validator("tools")
    @classmethod
    def _once(cls, tools: list[FunctionTool] | None) -> list[FunctionTool] | None:
        names = [tool.name for tool in tools or ()]
        if len(set(names)) != len(names):
            raise ValueError("two functions have the same name")
        return tools

    @model_validator(mode="after")
    def _consistent(self) -> ResponseAsk:
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("The 'tool_choice' parameter is only allowed when 'tools' are specified.")
        return self

    @property
    def logprobs(self) -> int | None:
        """How many alternatives are told of each token; None where nothing is."""
        return self.top_logprobs or 0 if LOGPROBS in (self.include or ()) else None
