"""An answering service without a model, and the server on a port of its own, for tests of answers over HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from serving import House
from tunesmith.inference.ask import Ask, Piece, Served, TokenLogprob, ToolCall
from tunesmith.inference.handle import Handle
from tunesmith.models.refs import Base
from tunesmith.server.answering import Answerer
from tunesmith.server.app import create_app
from tunesmith.server.connection import timely
from tunesmith.server.engine import Engine

BASE = "bundled/tunesmith-8m"
Script = Sequence[Piece | BaseException]
"""What comes of one answer: pieces, or what ends it early."""


def words(*texts: str, finish: Any = "stop", calls: Sequence[ToolCall] = ()) -> list[Piece]:
    """An answer of a token for each text."""
    pieces = [Piece(text=text, token_ids=(7,), logprobs=(lp(text),)) for text in texts]
    return [*pieces, Piece(tool_calls=tuple(calls), finish_reason=finish)]


def lp(token: str, logprob: float | None = -0.5) -> TokenLogprob:
    """A token with what was said of it."""
    return TokenLogprob(7, token, token.encode(), logprob)


@dataclass
class Fake:
    """Answers from a script, in a thread of its own; keeps what it was asked. `refuse` is raised instead."""

    script: Script = field(default_factory=lambda: words("Hel", "lo"))
    refuse: BaseException | None = None
    gate: threading.Event | None = None
    """Held before the last piece, where there is one."""
    prompt_tokens: int = 5
    asked: list[Ask] = field(default_factory=list)
    handles: list[Handle] = field(default_factory=list)
    forgotten: list[Path] = field(default_factory=list)

    def submit(self, ask: Ask) -> Handle:
        if self.refuse is not None:
            raise self.refuse
        self.asked.append(ask)
        handle = Handle(ask.n, self.prompt_tokens)
        self.handles.append(handle)
        threading.Thread(target=self._answer, args=(ask, handle), daemon=True).start()
        return handle

    def _answer(self, ask: Ask, handle: Handle) -> None:
        for index in range(ask.n):
            for place, piece in enumerate(self.script):
                if self.gate is not None and place == len(self.script) - 1:
                    self.gate.wait(60)
                if isinstance(piece, BaseException):
                    handle.fail(piece)
                    return
                shown = replace(piece, index=index, logprobs=piece.logprobs if ask.logprobs is not None else ())
                if place == 0 and ask.prompt_logprobs:
                    shown = replace(shown, prompt=(lp("Once", None), lp(" a", -1.0)))
                handle.put(shown, len(piece.token_ids))

    def embed(self, model: Served, inputs: Sequence[str | Sequence[int]]) -> Future[tuple[list[list[float]], int]]:
        if self.refuse is not None:
            raise self.refuse
        found: Future[tuple[list[list[float]], int]] = Future()
        found.set_result(([[0.6, 0.8] for _ in inputs], 3 * len(inputs)))
        return found

    def text(self, model: Served, ids: Sequence[int]) -> str:
        return "".join(f"<{i}>" for i in ids)

    def forget(self, folder: Path) -> Future[None]:
        self.forgotten.append(folder)
        return Future()

    def close(self) -> None:
        pass


def base(name: str) -> Served:
    """A base that is nowhere."""
    return Served(name, Base(name, Path("nowhere")))


def run(folder: Path, name: str, weights: Path) -> Served:
    """A run's model that is nowhere."""
    return Served(name, Base("base", Path("nowhere")), weights)


def with_fake(house: House, fake: Fake | None = None) -> Fake:
    """Let a house answer from a script."""
    made = fake or Fake()
    services = house.services
    services.answerer = Answerer(services.models, services.settings.answering, lambda: Engine(made, base, run))
    return made


@contextmanager
def live(app: FastAPI, header_seconds: float = 30) -> Iterator[str]:
    """The app on a port of its own, by uvicorn in a thread; its URL with /v1."""
    config = uvicorn.Config(
        app, http=timely(header_seconds), log_level="warning", lifespan="off", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@contextmanager
def live_house(house: House) -> Iterator[str]:
    """A house on a port of its own."""
    settings = house.services.settings
    with live(create_app(settings, house.services), settings.limits.seconds_for_headers) as url:
        yield url


def until(true: Callable[[], bool], patience: float = 20) -> bool:
    """Whether it came to be."""
    done = threading.Event()
    for _ in range(int(patience / 0.02)):
        if true():
            return True
        done.wait(0.02)
    return False
