"""Items of responses: from those of a request to turns of a conversation, and from the answer's pieces to new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core import ids
from ..core.messages import Message
from ..inference.ask import Piece, ToolCall
from .asks import call_id, wire_logprob
from .protocol.asking import TokenLogprob
from .protocol.response_replies import OutputCall, OutputMessage, OutputText, Status
from .protocol.responses import Item, MessageItem, OutputItem, text_of

Event = tuple[str, dict[str, Any]]
"""An event's type and what it tells."""


def turns(items: Sequence[Item]) -> list[Message]:
    """The conversation that items make. Calls that follow each other, or an assistant's words, are of one turn."""
    made: list[Message] = []
    for item in items:
        if isinstance(item, MessageItem):
            made.append(Message(role=item.role, content=text_of(item.content)))
        elif isinstance(item, OutputItem):
            made.append(Message(role="tool", content=text_of(item.output), tool_call_id=item.call_id))
        else:
            call = {
                "id": item.call_id,
                "type": "function",
                "function": {"name": item.name, "arguments": item.arguments},
            }
            last = made[-1] if made else None
            if last is None or last.role != "assistant":
                made.append(Message(role="assistant", tool_calls=(call,)))
            else:
                made[-1] = last.model_copy(update={"tool_calls": (*(last.tool_calls or ()), call)})
    return made


def listed(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Items of a request as they are shown later, each with an id."""
    prefixes = {"message": "msg_", "function_call": "fc_", "function_call_output": "fco_"}
    shown = []
    for item in items:
        content = item.model_dump(exclude_none=True) | {"id": item.id or ids.record_id(prefixes[item.type])}
        if isinstance(item, MessageItem):
            kind = "output_text" if item.role == "assistant" else "input_text"
            content["content"] = [{"type": kind, "text": text_of(item.content)}]
            if kind == "output_text":
                content["content"][0]["annotations"] = []
        elif isinstance(item, OutputItem):
            content["output"] = text_of(item.output)
        shown.append(content | {"status": "completed"})
    return shown


class Output:
    """The items that an answer's pieces make, and the events that tell of them."""

    def __init__(self) -> None:
        self.items: list[OutputMessage | OutputCall] = []
        """Those that are at their end."""
        self.calls: list[tuple[str, ToolCall]] = []
        self.text = ""
        """All that was said."""
        self._message_id: str | None = None
        self._said = ""
        self._logprobs: list[TokenLogprob] = []

    def add(self, piece: Piece) -> list[Event]:
        """What a piece brings."""
        events: list[Event] = []
        told = [wire_logprob(one) for one in piece.logprobs]
        if piece.text:
            events += self._opened()
            self._said += piece.text
            self._logprobs += told
            self.text += piece.text
            events.append(
                ("response.output_text.delta", self._place() | {"delta": piece.text, "logprobs": _dumped(told)})
            )
        elif self._message_id is not None:
            self._logprobs += told
        for call in piece.tool_calls:
            events += self._closed("completed") + self._called(call)
        if piece.finish_reason:
            status: Status = "incomplete" if piece.finish_reason == "length" else "completed"
            if not self.items:
                events += self._opened()
            events += self._closed(status)
        return events

    def _opened(self) -> list[Event]:
        if self._message_id is not None:
            return []
        self._message_id, self._said, self._logprobs = ids.record_id("msg_"), "", []
        item = OutputMessage(id=self._message_id, status="in_progress", content=[]).model_dump()
        return [
            ("response.output_item.added", {"output_index": len(self.items), "item": item}),
            ("response.content_part.added", self._place() | {"part": OutputText(text="").model_dump()}),
        ]

    def _closed(self, status: Status) -> list[Event]:
        if self._message_id is None:
            return []
        place, part = self._place(), OutputText(text=self._said, logprobs=self._logprobs)
        item = OutputMessage(id=self._message_id, status=status, content=[part])
        self._message_id = None
        self.items.append(item)
        return [
            ("response.output_text.done", place | {"text": part.text, "logprobs": _dumped(self._logprobs)}),
            ("response.content_part.done", place | {"part": part.model_dump()}),
            ("response.output_item.done", {"output_index": place["output_index"], "item": item.model_dump()}),
        ]

    def _called(self, call: ToolCall) -> list[Event]:
        id, item_id, index = call_id(), ids.record_id("fc_"), len(self.items)
        item = OutputCall(id=item_id, status="completed", call_id=id, name=call.name, arguments=call.arguments)
        self.calls.append((id, call))
        self.items.append(item)
        begun = item.model_dump() | {"status": "in_progress", "arguments": ""}
        place = {"item_id": item_id, "output_index": index}
        return [
            ("response.output_item.added", {"output_index": index, "item": begun}),
            ("response.function_call_arguments.delta", place | {"delta": call.arguments}),
            ("response.function_call_arguments.done", place | {"name": call.name, "arguments": call.arguments}),
            ("response.output_item.done", {"output_index": index, "item": item.model_dump()}),
        ]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id, "output_index": len(self.items), "content_index": 0}


def _dumped(told: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    return [one.model_dump() for one in told]
