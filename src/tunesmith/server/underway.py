"""A request for answers on its way: begun, watched for a caller who leaves, counted when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from ..core.errors import TunesmithError
from ..governance.keys import Identity
from ..inference.ask import Ask, Choice, Piece, Served
from ..inference.handle import Handle
from .answering import Params, refusal
from .services import Services

T = TypeVar("T")
Event = tuple[int, Piece]
"""A piece, and which of the request's asks it is of."""
Events = AsyncGenerator[Event, None]


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What comes of the work; ClientDisconnect, and the work cancelled, when the caller leaves before."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class UnderWay:
    """The asks of one request, in the hands of the answering service."""

    def __init__(
        self, services: Services, who: Identity, name: str, params: Params, handles: Sequence[Handle], most: int
    ):
        self._services, self._who, self._name, self._params = services, who, name, params
        self._handles, self._most = handles, most

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        return sum(handle.usage.prompt_tokens for handle in self._handles)

    @property
    def completion_tokens(self) -> int:
        """Of all answers so far."""
        return sum(handle.usage.completion_tokens for handle in self._handles)

    async def choices(self, request: Request) -> list[list[Choice]]:
        """All answers of each ask. ApiError; ClientDisconnect."""
        return await unless_gone(request, self._choices())

    async def _choices(self) -> list[list[Choice]]:
        try:
            return list(await asyncio.gather(*(handle.achoices() for handle in self._handles)))
        except TunesmithError as error:
            raise refusal(error, self._name, self._params) from error
        finally:
            self.settle()

    async def events(self, request: Request) -> Events:
        """Pieces as they come. The first one is waited for here, so that what prevents an answer is still told by a
        status; afterwards ApiError ends the iteration."""
        events = self._events()
        try:
            first = await unless_gone(request, _next(events))
        except BaseException:
            await events.aclose()
            raise
        return _behind(first, events)

    async def _events(self) -> Events:
        try:
            async with aclosing(_merged(self._handles)) as merged:
                async for event in merged:
                    yield event
        except TunesmithError as error:
            raise refusal(error, self._name, self._params) from error
        finally:
            self.settle()

    def settle(self) -> None:
        """Count what was used, once, and end what is still written."""
        if self._most < 0:
            return
        for handle in self._handles:
            handle.cancel()
        used = self.prompt_tokens + self.completion_tokens
        self._services.rates.give_back(self._who.key_id, max(0, self._most - used))
        self._services.meters.tokens.labels("prompt").inc(self.prompt_tokens)
        self._services.meters.tokens.labels("completion").inc(self.completion_tokens)
        self._most = -1


async def begin(
    services: Services, who: Identity, name: str, asks: Callable[[Served], Sequence[Ask]], params: Params,
    answer_tokens: int,
) -> UnderWay:  # fmt: skip
    """Take a request in, within the caller's rate: `answer_tokens` at most come of it. ApiError."""
    rates, key_id = services.rates, who.key_id
    rates.tokens(key_id, answer_tokens)
    handles: list[Handle] = []
    try:
        handles = await services.answerer.soon(lambda answerer: answerer.submit(who.project_id, name, asks, params))
        prompt = sum(handle.usage.prompt_tokens for handle in handles)
        rates.tokens(key_id, prompt)
    except BaseException:
        rates.give_back(key_id, answer_tokens)
        for handle in handles:
            handle.cancel()
        raise
    return UnderWay(services, who, name, params, handles, answer_tokens + prompt)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _behind(first: Event | None, rest: Events) -> Events:
    try:
        if first is not None:
            yield first
            async for event in rest:
                yield event
    finally:
        await rest.aclose()


async def _merged(handles: Sequence[Handle]) -> Events:
    """Pieces of several asks as they come."""
    if len(handles) == 1:
        async for piece in handles[0]:
            yield 0, piece
        return
    queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()

    async def pass_on(number: int, handle: Handle) -> None:
        try:
            async for piece in handle:
                queue.put_nowait((number, piece))
        except Exception as error:
            queue.put_nowait(error)
        else:
            queue.put_nowait(None)

    tasks = [asyncio.ensure_future(pass_on(number, handle)) for number, handle in enumerate(handles)]
    try:
        open_ones = len(tasks)
        while open_ones:
            event = await queue.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                open_ones -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
