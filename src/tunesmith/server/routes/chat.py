"""Chat completions: a conversation is continued, at once or as a stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...governance.keys import Identity
from ...inference.ask import Choice, Piece, ToolCall
from ...monitor.answers import NoAnswerError, request_of
from ..access import Caller, Serving
from ..asks import CHAT, answer_tokens, call_id, chat_ask, message, said, tool_json, wire_logprob
from ..errors import ApiError
from ..gathered import Gathered
from ..protocol.asking import usage
from ..protocol.chat import ChatAsk
from ..protocol.chat_replies import (
    ChatCompletion,
    Chunk,
    ChunkChoice,
    Delta,
    DeltaCall,
    Finish,
    Logprobs,
    ReplyCall,
    ReplyFunction,
    ReplyMessage,
)
from ..protocol.chat_replies import Choice as ReplyChoice
from ..protocol.common import Deleted, Id
from ..routing import Routes
from ..services import Services
from ..streaming import DONE, STREAM, EventStream, Stream, event
from ..underway import Events, UnderWay, begin

routes = Routes(prefix="/v1", tags=["chat"])


@routes.post("/chat/completions", scope="infer", errors=(404,), response_model=ChatCompletion, responses=STREAM)
async def create(request: Request, asked: ChatAsk, who: Caller, services: Serving) -> Response:
    """The model's next turn, `n` times; with `stream` as it is written."""
    most = services.answerer.settings.answer_tokens
    under_way = await begin(
        services, who, asked.model, lambda served: [chat_ask(asked, served, most, who.key_id)], CHAT,
        answer_tokens(asked, most) * (asked.n or 1),
    )  # fmt: skip
    turn = Turn(request, asked, who, services)
    if asked.stream:
        return EventStream(turn.stream(under_way, await under_way.events(request)))
    (choices,) = await under_way.choices(request)
    whole = turn.whole(choices, under_way)
    await turn.keep(choices, whole)
    return _json(whole)


@routes.get("/chat/completions/{completion_id}", scope="infer", errors=(404,))
async def retrieve(completion_id: Id, who: Caller, services: Serving) -> ChatCompletion:
    """An answer that was kept."""
    request_id = request_of(completion_id) or ""
    try:
        found = await run_in_threadpool(services.answers.get, who.project_id, request_id, kind="chat")
    except NoAnswerError as error:
        raise _no_such(completion_id) from error
    return ChatCompletion.model_validate(found.answered["completion"])


@routes.delete("/chat/completions/{completion_id}", scope="infer", errors=(404,))
async def delete(completion_id: Id, who: Caller, services: Serving) -> Deleted:
    """Remove an answer that was kept, and what was said of it."""
    try:
        await run_in_threadpool(services.answers.delete, who, request_of(completion_id) or "", kind="chat")
    except NoAnswerError as error:
        raise _no_such(completion_id) from error
    return Deleted(id=completion_id, object="chat.completion.deleted")


def _no_such(id: str) -> ApiError:
    return ApiError(404, f"No chat completion found with id '{id}'.", param="completion_id")


class Turn:
    """One request: its ids and how its answers are told."""

    def __init__(self, request: Request, asked: ChatAsk, who: Identity, services: Services):
        self._asked, self._who, self._services = asked, who, services
        self._request_id: str = request.state.request_id
        self._id = "chatcmpl-" + self._request_id.removeprefix("req_")
        self._created = int(time.time())
        self._calls: dict[int, list[tuple[str, ToolCall]]] = {}
        """Of each answer, with the ids that they were told under."""

    def whole(self, choices: Sequence[Choice], under_way: UnderWay) -> ChatCompletion:
        """All answers."""
        told = []
        for index, choice in enumerate(choices):
            calls = self._calls.get(index) or self._new_calls(index, choice.tool_calls)
            shown = ReplyMessage(
                content=choice.text or (None if calls else ""), tool_calls=[_call(*one) for one in calls] or None
            )
            told.append(
                ReplyChoice(
                    index=index, message=shown, logprobs=self._logprobs(choice), finish_reason=choice.finish_reason
                )
            )
        return ChatCompletion(
            id=self._id, created=self._created, model=self._asked.model, choices=told,
            usage=usage(under_way.prompt_tokens, under_way.completion_tokens),
        )  # fmt: skip

    async def stream(self, under_way: UnderWay, events: Events) -> Stream:
        """The answers as events. With `include_usage` each chunk has a `usage`, which only the last one fills."""
        count, options = self._asked.n or 1, self._asked.stream_options
        more: dict[str, Any] = {"usage": None} if options and options.include_usage else {}
        gathered = Gathered(count)
        async with aclosing(events):
            for index in range(count):
                yield self._chunk(_part(index, Delta(role="assistant", content="", refusal=None)), more)
            async for _, piece in events:
                gathered.add(piece)
                for part in self._parts(piece):
                    yield self._chunk(part, more)
        choices = gathered.choices()
        await self.keep(choices, self.whole(choices, under_way))
        if more:
            used = usage(under_way.prompt_tokens, under_way.completion_tokens)
            yield event(Chunk(id=self._id, created=self._created, model=self._asked.model, choices=[], usage=used))
        yield DONE

    async def keep(self, choices: Sequence[Choice], whole: ChatCompletion) -> None:
        """Keep the answers, where the caller or the configuration says so."""
        wanted = self._services.settings.keep.answers if self._asked.store is None else self._asked.store
        if not wanted:
            return
        asked = {
            "messages": [message(one).model_dump(exclude_none=True) for one in self._asked.messages],
            "tools": [tool_json(tool) for tool in self._asked.tools or ()],
        }
        for index, choice in enumerate(choices):
            answered = {"message": said(choice, self._calls.get(index, []))}
            if index == 0:
                answered["completion"] = whole.model_dump(mode="json")
            await run_in_threadpool(
                self._services.answers.keep, self._who, request_of(self._request_id, index) or "", kind="chat",
                model=self._asked.model, asked=asked, answered=answered,
            )  # fmt: skip

    def _parts(self, piece: Piece) -> list[ChunkChoice]:
        """What a piece adds; nothing where all of it is held back. The end has a chunk of its own."""
        parts = []
        logprobs = self._logprobs(piece) if piece.logprobs else None
        if piece.text or logprobs:
            parts.append(_part(piece.index, Delta(content=piece.text), logprobs))
        if piece.tool_calls:
            before = len(self._calls.get(piece.index, ()))
            calls = self._new_calls(piece.index, piece.tool_calls)[before:]
            told = [
                DeltaCall(index=before + place, id=id, type="function", function=_function(call))
                for place, (id, call) in enumerate(calls)
            ]
            parts.append(_part(piece.index, Delta(tool_calls=told)))
        if piece.finish_reason:
            parts.append(_part(piece.index, Delta(), finish=piece.finish_reason))
        return parts

    def _new_calls(self, index: int, calls: Sequence[ToolCall]) -> list[tuple[str, ToolCall]]:
        """All calls of an answer so far, these among them."""
        known = self._calls.setdefault(index, [])
        known += [(call_id(), call) for call in calls]
        return known

    def _logprobs(self, part: Choice | Piece) -> Logprobs | None:
        if not self._asked.logprobs:
            return None
        return Logprobs(content=[wire_logprob(one) for one in part.logprobs], refusal=None)

    def _chunk(self, choice: ChunkChoice, more: dict[str, Any]) -> bytes:
        """All that is set, and nothing else, is sent: so a delta holds what is new alone."""
        chunk = Chunk(
            id=self._id, object="chat.completion.chunk", created=self._created, model=self._asked.model,
            choices=[choice], service_tier="default", system_fingerprint=None, **more,
        )  # fmt: skip
        return event(chunk, exclude_unset=True)


def _part(index: int, delta: Delta, logprobs: Logprobs | None = None, finish: Finish | None = None) -> ChunkChoice:
    return ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish)


def _call(id: str, call: ToolCall) -> ReplyCall:
    return ReplyCall(id=id, type="function", function=_function(call))


def _function(call: ToolCall) -> ReplyFunction:
    return ReplyFunction(name=call.name, arguments=call.arguments)


def _json(whole: ChatCompletion) -> Response:
    """An answer without calls has no key for them."""
    content = whole.model_dump(mode="json")
    for choice in content["choices"]:
        if choice["message"]["tool_calls"] is None:
            del choice["message"]["tool_calls"]
    return Response(orjson.dumps(content), media_type="application/json")
