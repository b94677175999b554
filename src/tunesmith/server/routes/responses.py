"""Responses: a conversation is continued, standing on an earlier answer where the caller says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...core.messages import Message
from ...governance.keys import Identity
from ...inference.ask import Ask, Choice, Constraint, Finish, Piece, Served
from ...monitor.answers import Kept, NoAnswerError, request_of
from ...monitor.conversations import joined
from ...monitor.conversations import turns as turns_before
from ..access import Caller, Serving
from ..asks import chosen, said, sampling, tool_json
from ..errors import ApiError, invalid
from ..protocol.chat import Allowed, AllowedTool, AllowedTools, Chosen, Function, Tool, ToolChoice
from ..protocol.chat import ChosenFunction as ByName
from ..protocol.common import After, Deleted, EndedPage, Id, Order, ended
from ..protocol.response_replies import Incomplete, ResponseReply, ResponseUsage, Status
from ..protocol.responses import AllowedFunctions, ChosenFunction, ResponseAsk
from ..response_items import Output, listed, turns
from ..routing import Routes
from ..services import Services
from ..streaming import STREAM, EventStream, Stream, as_told, named_event
from ..underway import Events, UnderWay, begin

routes = Routes(prefix="/v1", tags=["responses"])

_PARAMS = {"constraint": "text.format", "messages": "input"}
"""Names of the service, as the caller knows them."""


@routes.post("/responses", scope="infer", errors=(404,), response_model=ResponseReply, responses=STREAM)
async def create(request: Request, asked: ResponseAsk, who: Caller, services: Serving) -> Response:
    """The model's next turn; with `stream` as it is written. Kept for later unless `store` is false."""
    before = await run_in_threadpool(_before, services, who, asked.previous_response_id)
    work = Answer(request, asked, who, services, before)
    under_way = await begin(services, who, asked.model, work.asks, _PARAMS, work.most)
    if asked.stream:
        return EventStream(work.stream(under_way, await under_way.events(request)))
    ((choice,),) = await under_way.choices(request)
    work.output.add(Piece(0, choice.text, choice.token_ids, choice.logprobs, choice.tool_calls, choice.finish_reason))
    reply = await work.finished(choice, under_way)
    return Response(reply.model_dump_json(), media_type="application/json")


@routes.get("/responses/{response_id}", scope="infer", errors=(404,))
async def retrieve(
    response_id: Id, who: Caller, services: Serving, stream: Annotated[bool, Query()] = False
) -> ResponseReply:
    """A response that was kept."""
    if stream:
        raise invalid("Only responses of the background can be streamed again.", "stream")
    return ResponseReply.model_validate((await _kept(services, who, response_id)).answered["response"])


@routes.delete("/responses/{response_id}", scope="infer", errors=(404,))
async def delete(response_id: Id, who: Caller, services: Serving) -> Deleted:
    """Remove a response; others cannot stand on it any more."""
    try:
        await run_in_threadpool(services.answers.delete, who, request_of(response_id) or "", kind="response")
    except NoAnswerError as error:
        raise _no_such(response_id) from error
    return Deleted(id=response_id, object="response")


@routes.post("/responses/{response_id}/cancel", scope="infer", errors=(404,))
async def cancel(response_id: Id, who: Caller, services: Serving) -> ResponseReply:
    """None is answered in the background, so there is nothing to cancel: 400."""
    await _kept(services, who, response_id)
    raise invalid("Cannot cancel a synchronous response.", "response_id")


@routes.get("/responses/{response_id}/input_items", scope="infer", errors=(404,))
async def input_items(
    response_id: Id, who: Caller, services: Serving, limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc", after: After = None,
) -> EndedPage[dict[str, Any]]:  # fmt: skip
    """What a response answered: its own input, and before it that of the responses it stands on, with their answers."""
    await _kept(services, who, response_id)
    try:
        chain = await run_in_threadpool(services.answers.chain, who.project_id, request_of(response_id) or "")
    except NoAnswerError as error:
        raise _no_such(response_id) from error
    items: list[dict[str, Any]] = []
    for kept in chain[:-1]:
        items += kept.asked["items"] + kept.answered["response"]["output"]
    items += chain[-1].asked["items"]
    items = items if order == "asc" else items[::-1]
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        items = items[places[0] + 1 :] if places else []
    page = items[:limit]
    return ended(page, [item["id"] for item in page], len(items) > limit)


class Answer:
    """One request: what it asks for, and how the answer is told."""

    def __init__(self, request: Request, asked: ResponseAsk, who: Identity, services: Services, before: Sequence[Kept]):
        self._asked, self._who, self._services, self._before = asked, who, services, before
        self._request_id: str = request.state.request_id
        self._id = "resp_" + self._request_id.removeprefix("req_")
        self._created = int(time.time())
        self._messages = turns(asked.input)
        longest = services.answerer.settings.answer_tokens
        self.most = min(asked.max_output_tokens or longest, longest)
        self.output = Output()

    def asks(self, served: Served) -> list[Ask]:
        """The one ask. ApiError."""
        asked = self._asked
        tools, choice = chosen(_tools(asked), _choice(asked))
        format = asked.text.format if asked.text else None
        constraint = None
        if format is not None and format.type != "text":
            constraint = Constraint(format.type, format.schema_)
        return [
            Ask(
                served, sampling(self.most, asked.temperature, asked.top_p, None), messages=self._conversation(),
                logprobs=asked.logprobs, constraint=constraint, tools=[tool_json(tool) for tool in tools],
                tool_choice=choice, parallel_tool_calls=asked.parallel_tool_calls is not False, key=self._who.key_id,
            )
        ]  # fmt: skip

    async def stream(self, under_way: UnderWay, events: Events) -> Stream:
        """The answer as events, numbered one after the other."""
        number = 0

        def told(name: str, content: dict[str, Any]) -> bytes:
            nonlocal number
            number += 1
            return named_event(name, {"type": name, "sequence_number": number - 1} | content)

        begun = {"response": self._reply("in_progress").model_dump(mode="json")}
        yield told("response.created", begun)
        yield told("response.in_progress", begun)
        finish: Finish = "stop"
        try:
            async with aclosing(events):
                async for _, piece in events:
                    finish = piece.finish_reason or finish
                    for name, content in self.output.add(piece):
                        yield told(name, content)
            reply = await self.finished(Choice(self.output.text, finish), under_way)
        except Exception as error:
            failed = as_told(error)
            about = {"message": failed.message, "type": failed.type, "param": failed.param, "code": failed.code}
            yield told("error", about | {"type": "error", "error": about})
            return
        yield told(f"response.{reply.status}", {"response": reply.model_dump(mode="json")})

    async def finished(self, choice: Choice, under_way: UnderWay) -> ResponseReply:
        """The whole response, which is kept unless the caller does not want that or it is too large."""
        reply = self._reply("incomplete" if choice.finish_reason == "length" else "completed", under_way)
        if self._asked.store is False:
            return reply
        asked = {
            "messages": [message.model_dump(exclude_none=True) for message in self._messages],
            "instructions": self._asked.instructions,
            "tools": [tool_json(tool) for tool in _tools(self._asked)],
            "items": listed(self._asked.input),
        }
        answered = {"message": said(choice, self.output.calls), "response": reply.model_dump(mode="json")}
        kept = await run_in_threadpool(
            self._services.answers.keep, self._who, self._request_id, kind="response", model=self._asked.model,
            asked=asked, answered=answered, previous=self._before[-1].request_id if self._before else None,
        )  # fmt: skip
        return reply if kept else reply.model_copy(update={"store": False})

    def _conversation(self) -> list[Message]:
        """All turns before the answer. Instructions of earlier responses do not hold for this one."""
        return joined(self._asked.instructions, [*turns_before(self._before), *self._messages])

    def _reply(self, status: Status, under_way: UnderWay | None = None) -> ResponseReply:
        asked, usage = self._asked, None
        if under_way is not None:
            read, written = under_way.prompt_tokens, under_way.completion_tokens
            usage = ResponseUsage(input_tokens=read, output_tokens=written, total_tokens=read + written)
        dumped = asked.model_dump(exclude_none=True, by_alias=True)
        text = dumped.get("text", {})
        return ResponseReply(
            id=self._id, created_at=self._created, status=status, model=asked.model, output=self.output.items,
            completed_at=int(time.time()) if status == "completed" else None,
            incomplete_details=Incomplete() if status == "incomplete" else None, instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens, metadata=asked.metadata or {}, usage=usage,
            parallel_tool_calls=asked.parallel_tool_calls is not False, user=asked.user,
            previous_response_id=asked.previous_response_id, store=asked.store is not False,
            temperature=1.0 if asked.temperature is None else asked.temperature,
            text={"format": {"type": "text"}} | text, tool_choice=dumped.get("tool_choice", "auto"),
            tools=dumped.get("tools", []), top_logprobs=asked.top_logprobs or 0,
            top_p=1.0 if asked.top_p is None else asked.top_p, truncation=asked.truncation or "disabled",
        )  # fmt: skip


def _tools(asked: ResponseAsk) -> list[Tool]:
    """In the form that chat templates show."""
    return [
        Tool(
            type="function",
            function=Function(
                name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
            ),
        )
        for tool in asked.tools or ()
    ]


def _choice(asked: ResponseAsk) -> ToolChoice | None:
    choice = asked.tool_choice
    if isinstance(choice, ChosenFunction):
        return Chosen(type="function", function=ByName(name=choice.name))
    if isinstance(choice, AllowedFunctions):
        allowed = [AllowedTool(type="function", function=ByName(name=one.name)) for one in choice.tools]
        return AllowedTools(type="allowed_tools", allowed_tools=Allowed(mode=choice.mode, tools=allowed))
    return choice


def _before(services: Services, who: Identity, id: str | None) -> list[Kept]:
    """The responses that one stands on. ApiError 400 where they are not kept."""
    if id is None:
        return []
    try:
        return services.answers.chain(who.project_id, request_of(id) or "")
    except NoAnswerError as error:
        raise invalid(
            f"Previous response with id '{id}' not found.", "previous_response_id", "previous_response_not_found"
        ) from error


async def _kept(services: Services, who: Identity, id: str) -> Kept:
    try:
        return await run_in_threadpool(services.answers.get, who.project_id, request_of(id) or "", kind="response")
    except NoAnswerError as error:
        raise _no_such(id) from error


def _no_such(id: str) -> ApiError:
    return ApiError(404, f"Response with id '{id}' not found.", param="response_id")
