"""Chat completions on the wire: what is asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from .asking import (
    FreeJson,
    LogitBias,
    Metadata,
    Penalty,
    Seed,
    Stop,
    StreamOptions,
    Temperature,
    ToolName,
    TopP,
    WholeAsk,
)
from .common import Ask, Name

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Function(Ask):
    """A function that may be called."""

    name: ToolName
    description: str | None = None
    parameters: FreeJson | None = None
    """A JSON Schema of its arguments."""
    strict: bool | None = None
    """Taken and without effect: a call that must be made always fits the schema, one that may be made never has to."""


class Tool(Ask):
    """A tool; functions are the only ones."""

    type: Literal["function"]
    function: Function


class CalledFunction(Ask):
    """What was called."""

    name: str
    arguments: str
    """JSON text."""


class Call(Ask):
    """A call in a conversation."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class TextPart(Ask):
    """A part of a message: text, or a refusal that was said before. Models here read nothing else."""

    type: Literal["text", "refusal"]
    text: str = ""
    refusal: str = ""


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is not None and not isinstance(value, list):
        raise ValueError("must be a text or a list of content parts")
    return value


Content = Annotated[list[TextPart], BeforeValidator(_parts, json_schema_input_type=str | list[TextPart])]


class Message(Ask):
    """One turn of a conversation."""

    role: Role
    content: Content | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    """The thinking before an answer, where it is kept apart."""
    refusal: str | None = None
    annotations: list[FreeJson] | None = None
    """Taken and without effect: it comes back in what this server answered."""
    audio: None = None
    function_call: None = None

    @property
    def text(self) -> str | None:
        """All parts together."""
        if self.content is None:
            return self.refusal
        return "".join(part.text or part.refusal for part in self.content)

    @model_validator(mode="after")
    def _whole(self) -> Message:
        if self.role != "assistant" and self.content is None:
            raise ValueError(f"a message of the role '{self.role}' must have a content")
        if self.role == "assistant" and self.text is None and not self.tool_calls:
            raise ValueError("an assistant message must have a content or tool_calls")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of the role 'tool' must have a tool_call_id")
        return self


class ChosenFunction(Ask):
    """By its name."""

    name: ToolName


class Chosen(Ask):
    """The one tool to call."""

    type: Literal["function"]
    function: ChosenFunction


class AllowedTool(Ask):
    """One of the tools."""

    type: Literal["function"]
    function: ChosenFunction


class Allowed(Ask):
    """The tools that may be called among those that are there."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Field(min_length=1)]


class AllowedTools(Ask):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: Allowed


ToolChoice = Literal["none", "auto", "required"] | Chosen | AllowedTools


class SchemaFormat(Ask):
    """A schema with its name."""

    name: ToolName
    description: str | None = None
    schema_: FreeJson = Field(default_factory=dict, alias="schema")
    strict: bool | None = None
    """Taken and without effect: an answer always follows the schema."""


class ResponseFormat(Ask):
    """What an answer must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None

    @model_validator(mode="after")
    def _with_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("'json_schema' must be given where the type is json_schema, and nowhere else")
        return self


class ChatAsk(WholeAsk):
    """A conversation to be continued. What has no effect here is taken, so that clients need no change."""

    messages: Annotated[list[Message], Field(min_length=1)]
    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    store: bool | None = None
    """Keep the answer, so that it can be retrieved and feedback can name it."""
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: FreeJson | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prediction: FreeJson | None = None
    modalities: list[Literal["text"]] | None = None

    @field_validator("tools")
    @classmethod
    def _once(cls, tools: list[Tool] | None) -> list[Tool] | None:
        names = [tool.function.name for tool in tools or ()]
        if len(set(names)) != len(names):
            raise ValueError("two functions have the same name")
        return tools

    @model_validator(mode="after")
    def _consistent(self) -> ChatAsk:
        if self.stream_options is not None and not self.stream:
            raise ValueError("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise ValueError("The 'tool_choice' parameter is only allowed when 'tools' are specified.")
        return self
