"""From requests on the wire to what the answering service is asked, and from its answers back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import ids
from ..core.messages import Message
from ..inference.ask import Alternative, Ask, Choice, Constraint, Served, ToolCall
from ..inference.ask import Named as NamedTool
from ..inference.ask import TokenLogprob as Told
from ..inference.ask import ToolChoice as Choosing
from ..inference.sampling import Sampling
from .errors import invalid
from .protocol.asking import TokenLogprob, TopLogprob
from .protocol.chat import AllowedTools, ChatAsk, Chosen, ResponseFormat, Tool, ToolChoice
from .protocol.chat import Message as WireMessage

CHAT = {"constraint": "response_format"}
"""Names of the service, as the caller of a chat knows them."""
SEEDS = 2**63
_NARROWEST = 1e-6
"""A `top_p` of 0 leaves the likeliest token."""


def sampling(
    max_tokens: int, temperature: float | None, top_p: float | None, seed: int | None, *,
    presence: float | None = None, frequency: float | None = None, bias: Mapping[str, float] | None = None,
) -> Sampling:  # fmt: skip
    """As the hosted API samples where nothing is said: temperature 1, and another seed each time."""
    return Sampling(
        max_tokens=max_tokens, temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else max(top_p, _NARROWEST),
        seed=secrets.randbelow(SEEDS) if seed is None else seed % SEEDS,
        presence_penalty=presence or 0.0, frequency_penalty=frequency or 0.0,
        logit_bias={int(token): value for token, value in (bias or {}).items()},
    )  # fmt: skip


def chat_ask(asked: ChatAsk, served: Served, most: int, key: str) -> Ask:
    """Of a chat; `most` tokens where it names no limit. ApiError."""
    tools, choice = chosen(asked.tools or [], asked.tool_choice)
    return Ask(
        served,
        sampling(
            answer_tokens(asked, most), asked.temperature, asked.top_p, asked.seed, presence=asked.presence_penalty,
            frequency=asked.frequency_penalty, bias=asked.logit_bias,
        ),
        messages=[message(one) for one in asked.messages], n=asked.n or 1, stop=asked.stop or (),
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None, constraint=constraint(asked.response_format),
        tools=[tool_json(tool) for tool in tools], tool_choice=choice,
        parallel_tool_calls=asked.parallel_tool_calls is not False, key=key,
    )  # fmt: skip


def answer_tokens(asked: ChatAsk, most: int) -> int:
    """How long an answer may become: never longer than the service takes."""
    return min(asked.max_completion_tokens or asked.max_tokens or most, most)


def message(said: WireMessage) -> Message:
    """A turn. A `function` turn, of clients from before there were tools, is that of a tool."""
    calls = [call.model_dump() for call in said.tool_calls or ()]
    return Message(
        role="tool" if said.role == "function" else said.role, content=said.text, name=said.name,
        reasoning_content=said.reasoning_content, tool_calls=tuple(calls) or None, tool_call_id=said.tool_call_id,
    )  # fmt: skip


def chosen(tools: Sequence[Tool], choice: ToolChoice | None) -> tuple[list[Tool], Choosing | NamedTool]:
    """The tools that may be called, and how. ApiError for a tool that is not there."""
    known = {tool.function.name: tool for tool in tools}
    if isinstance(choice, AllowedTools):
        names = [one.function.name for one in choice.allowed_tools.tools]
        _require_known(names, known)
        return [known[name] for name in dict.fromkeys(names)], choice.allowed_tools.mode
    if isinstance(choice, Chosen):
        _require_known([choice.function.name], known)
        return list(tools), NamedTool(choice.function.name)
    return list(tools), choice or "auto"


def _require_known(names: Sequence[str], known: Mapping[str, Tool]) -> None:
    for name in names:
        if name not in known:
            raise invalid(f"Invalid value for 'tool_choice': '{name}' is not among 'tools'.", "tool_choice")


def tool_json(tool: Tool) -> dict[str, Any]:
    """A tool as chat templates show it."""
    return tool.model_dump(exclude_none=True)


def constraint(format: ResponseFormat | None) -> Constraint | None:
    """What an answer must be."""
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return Constraint("json_object")
    return Constraint("json_schema", format.json_schema.schema_ if format.json_schema else {})


def wire_logprob(told: Told) -> TokenLogprob:
    """A token with what the model said of it."""
    return TokenLogprob(
        token=told.token, bytes=list(told.bytes), logprob=_number(told),
        top_logprobs=[TopLogprob(token=one.token, bytes=list(one.bytes), logprob=_number(one)) for one in told.top],
    )  # fmt: skip


def _number(told: Alternative) -> float:
    """JSON has no infinity; the hosted API says -9999 for what is out of question."""
    return max(told.logprob if told.logprob is not None else 0.0, -9999.0)


def call_id() -> str:
    """An id for a call."""
    return "call_" + ids.base62(24)


def said(choice: Choice, calls: Sequence[tuple[str, ToolCall]]) -> dict[str, Any]:
    """An answer as a turn that is kept; calls with the ids that they were told under."""
    turn = Message(
        role="assistant", content=choice.text or (None if calls else ""),
        tool_calls=tuple(
            {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for id, call in calls
        ) or None,
    )  # fmt: skip
    return turn.model_dump(exclude_none=True)
