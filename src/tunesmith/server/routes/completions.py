"""Completions, the older call: texts are continued, without a chat template."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from math import inf
from typing import Literal

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...governance.keys import Identity
from ...inference.ask import Ask, Choice, Finish, Piece, Served, TokenLogprob
from ...monitor.answers import request_of
from ..access import Caller, Serving
from ..answering import Answerer
from ..asks import sampling
from ..gathered import Gathered
from ..protocol.asking import usage
from ..protocol.completions import Completion, CompletionAsk, CompletionChoice, CompletionLogprobs
from ..routing import Routes
from ..services import Services
from ..streaming import DONE, STREAM, EventStream, Stream, event
from ..underway import Events, UnderWay, begin

routes = Routes(prefix="/v1", tags=["completions"])

_USUAL = 16
"""Tokens, where nothing is said."""


@routes.post("/completions", scope="infer", errors=(404,), response_model=Completion, responses=STREAM)
async def create(request: Request, asked: CompletionAsk, who: Caller, services: Serving) -> Response:
    """Each prompt continued, `n` times; with `stream` as it is written."""
    work = Texts(request, asked, who, services)
    under_way = await begin(services, who, asked.model, work.asks, {}, work.most * work.drawn * len(asked.prompt))
    try:
        prompts = await work.prompts()
    except BaseException:
        under_way.settle()
        raise
    if asked.stream:
        return EventStream(work.stream(under_way, await under_way.events(request), prompts))
    found = [work.best(choices) for choices in await under_way.choices(request)]
    whole = work.whole(found, prompts, under_way)
    await work.keep(found, prompts)
    return Response(whole.model_dump_json(), media_type="application/json")


class Texts:
    """One request: what it asks for, and how its answers are told."""

    def __init__(self, request: Request, asked: CompletionAsk, who: Identity, services: Services):
        self._asked, self._who, self._services = asked, who, services
        self._request_id: str = request.state.request_id
        self._id = "cmpl-" + self._request_id.removeprefix("req_")
        self._created = int(time.time())
        self.n = asked.n or 1
        self.drawn = max(asked.best_of or 1, self.n)
        usual = _USUAL if asked.max_tokens is None else asked.max_tokens
        self.most = max(1, min(usual, services.answerer.settings.answer_tokens))
        """Of one answer. With a `max_tokens` of 0 one token is written and left out."""

    def asks(self, served: Served) -> list[Ask]:
        """One for each prompt."""
        asked = self._asked
        drawing = sampling(
            self.most, asked.temperature, asked.top_p, asked.seed, presence=asked.presence_penalty,
            frequency=asked.frequency_penalty, bias=asked.logit_bias,
        )  # fmt: skip
        logprobs = asked.logprobs if asked.logprobs is not None else 0 if self.drawn > self.n else None
        return [
            Ask(
                served, drawing, prompt=prompt, n=self.drawn, stop=asked.stop or (), logprobs=logprobs,
                prompt_logprobs=bool(asked.echo) and asked.logprobs is not None, key=self._who.key_id,
            )
            for prompt in asked.prompt
        ]  # fmt: skip

    async def prompts(self) -> list[str]:
        """The prompts as text, where they are shown or kept."""
        if not (self._asked.echo or self._services.settings.keep.answers):
            return ["" for _ in self._asked.prompt]
        return await self._services.answerer.soon(self._as_texts)

    def _as_texts(self, answerer: Answerer) -> list[str]:
        project_id, name = self._who.project_id, self._asked.model
        return [one if isinstance(one, str) else answerer.text(project_id, name, one) for one in self._asked.prompt]

    def best(self, choices: Sequence[Choice]) -> list[Choice]:
        """The `n` answers with the highest log-probability per token."""
        if self.drawn == self.n:
            return list(choices)
        return sorted(choices, key=_mean, reverse=True)[: self.n]

    def whole(self, found: Sequence[Sequence[Choice]], prompts: Sequence[str], under_way: UnderWay) -> Completion:
        """All answers."""
        told = []
        for number, choices in enumerate(found):
            scored = next((one.prompt for one in choices if one.prompt), ())
            for index, choice in enumerate(choices):
                telling = Telling(self._asked, prompts[number])
                text, logprobs = telling.add(Piece(0, choice.text, choice.token_ids, choice.logprobs, prompt=scored))
                told.append(
                    CompletionChoice(
                        index=number * self.n + index, text=text, logprobs=logprobs,
                        finish_reason=_finish(choice.finish_reason),
                    )
                )  # fmt: skip
        used = usage(under_way.prompt_tokens, under_way.completion_tokens)
        return Completion(id=self._id, created=self._created, model=self._asked.model, choices=told, usage=used)

    async def stream(self, under_way: UnderWay, events: Events, prompts: Sequence[str]) -> Stream:
        """The answers as events."""
        gathered = [Gathered(self.n) for _ in prompts]
        tellings = [[Telling(self._asked, prompt) for _ in range(self.n)] for prompt in prompts]
        scored: dict[int, tuple[TokenLogprob, ...]] = {}
        async with aclosing(events):
            async for number, piece in events:
                gathered[number].add(piece)
                if piece.prompt:
                    scored[number] = piece.prompt
                text, logprobs = tellings[number][piece.index].add(replace(piece, prompt=scored.get(number, ())))
                if text or logprobs or piece.finish_reason:
                    choice = CompletionChoice(
                        index=number * self.n + piece.index, text=text, logprobs=logprobs,
                        finish_reason=_finish(piece.finish_reason),
                    )  # fmt: skip
                    yield self._chunk([choice])
        await self.keep([one.choices() for one in gathered], prompts)
        options = self._asked.stream_options
        if options and options.include_usage:
            used = usage(under_way.prompt_tokens, under_way.completion_tokens)
            yield event(Completion(id=self._id, created=self._created, model=self._asked.model, choices=[], usage=used))
        yield DONE

    async def keep(self, found: Sequence[Sequence[Choice]], prompts: Sequence[str]) -> None:
        """Keep the answers, where the configuration says so."""
        if not self._services.settings.keep.answers:
            return
        flat = [(prompts[number], choice) for number, choices in enumerate(found) for choice in choices]
        for index, (prompt, choice) in enumerate(flat):
            await run_in_threadpool(
                self._services.answers.keep, self._who, request_of(self._request_id, index) or "", kind="completion",
                model=self._asked.model, asked={"prompt": prompt}, answered={"text": choice.text},
            )  # fmt: skip

    def _chunk(self, choices: list[CompletionChoice]) -> bytes:
        return event(Completion(id=self._id, created=self._created, model=self._asked.model, choices=choices))


class Telling:
    """How one text is told, piece by piece: with its prompt before it where `echo` asks for that."""

    def __init__(self, asked: CompletionAsk, prompt: str):
        self._with_logprobs = asked.logprobs is not None
        self._empty = asked.max_tokens == 0
        self._before = prompt if asked.echo else ""
        self._echo = bool(asked.echo)
        self._place = 0

    def add(self, piece: Piece) -> tuple[str, CompletionLogprobs | None]:
        """(text, log-probabilities) of a piece."""
        text = self._before + ("" if self._empty else piece.text)
        tokens = () if self._empty else piece.logprobs
        if self._echo:
            tokens = (*piece.prompt, *tokens)
        self._before, self._echo = "", False
        return text, self._told(tokens) if self._with_logprobs else None

    def _told(self, tokens: Sequence[TokenLogprob]) -> CompletionLogprobs:
        offsets = []
        for token in tokens:
            offsets.append(self._place)
            self._place += len(token.token)
        return CompletionLogprobs(
            tokens=[token.token for token in tokens],
            token_logprobs=[_finite(token.logprob) for token in tokens],
            top_logprobs=[
                None if token.logprob is None else {one.token: _finite(one.logprob) or 0.0 for one in token.top}
                for token in tokens
            ],
            text_offset=offsets,
        )


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, -9999.0)


def _mean(choice: Choice) -> float:
    told = [one.logprob or 0.0 for one in choice.logprobs]
    return sum(told) / len(told) if told else -inf


def _finish(reason: Finish | None) -> Literal["stop", "length"] | None:
    return "stop" if reason == "tool_calls" else reason
