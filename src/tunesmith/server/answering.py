"""The answering service behind the routes: begun with the first question, in a thread, for torch takes seconds to load.

Names of models are looked up for the caller's project; what the service refuses becomes an `ApiError`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..core.errors import MissingError, TunesmithError
from ..inference.ask import Ask, Served
from ..inference.errors import AskError, BusyError, ClosedError, NoRoomError, TooLongError
from ..inference.handle import Handle
from .engine import AnsweringSettings, Engine
from .errors import ApiError, invalid, no_such_model
from .records.models import Models, NoModelError
from .records.models import Served as Named

log = logging.getLogger("tunesmith.server")

T = TypeVar("T")
_THREADS = 8
_KEPT = 256
"""Models whose folders are remembered."""
Params = Mapping[str, str]
"""From names in an `Ask` to those that a caller knows, where they differ."""


class Answerer:
    """Answers for projects. What may block is done by `soon`, in threads of its own: while a model is loaded, the
    server's other routes go on."""

    def __init__(self, models: Models, settings: AnsweringSettings, build: Callable[[], Engine] | None = None):
        self.settings = settings
        self._models, self._build = models, build or settings.build
        self._threads = ThreadPoolExecutor(_THREADS, "tunesmith-asks")
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False
        self._served: OrderedDict[Named, Served] = OrderedDict()

    async def soon(self, work: Callable[[Answerer], T]) -> T:
        """What comes of `work`, done in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, self)

    def submit(
        self, project_id: str, name: str, asks: Callable[[Served], Sequence[Ask]], params: Params
    ) -> list[Handle]:
        """Take all of a request's asks in, or none. ApiError."""
        with told(name, params):
            engine = self._engine_()
            model = self._model(engine, project_id, name)
            handles: list[Handle] = []
            try:
                for ask in asks(model):
                    handles.append(engine.service.submit(ask))
            except BaseException:
                for handle in handles:
                    handle.cancel()
                raise
            return handles

    def embed(
        self, project_id: str, name: str, inputs: Sequence[str | Sequence[int]]
    ) -> Future[tuple[list[list[float]], int]]:
        """(a vector for each input, tokens read), later. ApiError."""
        with told(name, {"prompt": "input"}):
            engine = self._engine_()
            return engine.service.embed(self._model(engine, project_id, name), inputs)

    def text(self, project_id: str, name: str, ids: Sequence[int]) -> str:
        """Tokens as text. ApiError."""
        with told(name, {}):
            engine = self._engine_()
            return engine.service.text(self._model(engine, project_id, name), ids)

    def forget(self, weights: Path) -> None:
        """Drop what was loaded from a folder, as when its model is deleted."""
        with self._lock:
            engine = self._engine
            self._served = OrderedDict((key, one) for key, one in self._served.items() if key.weights != weights)
        if engine is not None:
            engine.service.forget(weights)

    def close(self) -> None:
        """End what is under way, and take nothing more."""
        with self._lock:
            self._closed = True
            engine = self._engine
        if engine is not None:
            engine.service.close()

    def _engine_(self) -> Engine:
        with self._lock:
            if self._closed:
                raise ClosedError("the server is ending")
            if self._engine is None:
                self._engine = self._build()
            return self._engine

    def _model(self, engine: Engine, project_id: str, name: str) -> Served:
        named = self._models.resolve(project_id, name)
        key = _key(named)
        with self._lock:
            found = self._served.get(key)
        if found is None:
            found = _served(engine, named)
        with self._lock:
            self._served[key] = found
            self._served.move_to_end(key)
            while len(self._served) > _KEPT:
                self._served.popitem(last=False)
        return found


def _key(named: Named) -> Named:
    """A record without what differs from one asking to the next, and cannot be a key."""
    return Named(named.name, named.base, run=named.run, weights=named.weights)


def _served(engine: Engine, named: Named) -> Served:
    if named.run is None or named.weights is None:
        return engine.base(named.base)
    return engine.run(named.run, named.name, named.weights)


@contextmanager
def told(name: str, params: Params) -> Iterator[None]:
    """What the service raises, as the caller is told it."""
    try:
        yield
    except TunesmithError as error:
        raise refusal(error, name, params) from error


def refusal(error: TunesmithError, name: str, params: Params) -> ApiError:
    """The failure of a request to the model `name`."""
    if isinstance(error, TooLongError):
        param = params.get(error.param, error.param)
        return invalid(
            f"This model's maximum context length is {error.limit} tokens. However, your {param} resulted in "
            f"{error.tokens} tokens. Please reduce the length of the {param}.", param, "context_length_exceeded",
        )  # fmt: skip
    if isinstance(error, AskError):
        return invalid("; ".join(filter(None, (error.what, error.why))), params.get(error.param, error.param))
    if isinstance(error, BusyError):
        return ApiError(
            429, "The server is answering as many requests as it can. Please try again in a moment.",
            code="engine_overloaded", headers={"retry-after": "1"},
        )  # fmt: skip
    if isinstance(error, NoModelError):
        return no_such_model(name)
    if isinstance(error, ClosedError | NoRoomError):
        wait = "10" if isinstance(error, NoRoomError) else "2"
        return ApiError(
            503, "The server cannot answer this now. Please try again later.", code="unavailable",
            headers={"retry-after": wait},
        )  # fmt: skip
    log.error("the model %s cannot be served", name, exc_info=error)
    if isinstance(error, MissingError):
        return no_such_model(name)
    return ApiError(500, f"The model `{name}` cannot be served. The server's log tells why.")
