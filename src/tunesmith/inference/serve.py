"""The answering service: one thread that holds the models, answers in batches and gives tokens as they come.

What waits for one model when there is room becomes a batch. Several batches are at work at once, one token each in
turn, so that a short answer does not wait for the end of a long one. Who is taken next is `batcher`'s to say; where
there is no memory for the model that is next, all wait until there is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ..core.errors import TunesmithError
from ..engine import memory
from .ask import Ask, Limits, Load, Served
from .batcher import Batcher, Turns, Waiting
from .errors import AskError, ClosedError, NoRoomError, TooLongError
from .handle import Handle
from .running import Running, Work
from .sampling import Sampling
from .score import embeddings
from .slots import Slot, Slots, context_of, key_of
from .words import Library

_EMBEDDED_AT_ONCE = 32
Order = Callable[[], bool]
"""Something else to do in the thread that answers; false where it cannot be done yet."""


class Answering:
    """Answers asks about any number of models. A context manager: leaving it ends what is under way."""

    def __init__(self, limits: Limits | None = None, batcher: Batcher | None = None):
        self.limits = limits or Limits()
        self._library = Library()
        self._slots = Slots(self.limits.memory)
        self._batcher: Batcher = Turns(self.limits.waiting) if batcher is None else batcher
        self._orders: deque[tuple[Order, Future[Any]]] = deque()
        self._live: list[Running] = []
        self._loaded: dict[str, int] = {}
        self._changed = threading.Condition()
        self._closing = False
        memory.keep_large_blocks()
        self._thread = threading.Thread(target=self._work, name="tunesmith-answers", daemon=True)
        self._thread.start()

    def __enter__(self) -> Answering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, ask: Ask) -> Handle:
        """Take a request in. Checks it and makes its prompt's tokens in the caller's thread (some milliseconds; the
        first of a base reads its tokenizer).

        AskError (with `.param`), TooLongError, BusyError, ClosedError; MissingError or ContentError where the model's
        folder is not there or not readable.
        """
        if not 1 <= ask.n <= self.limits.answers:
            raise AskError(f"n must be from 1 to {self.limits.answers}", param="n")
        words = self._library.of(ask.model)
        prompt = words.prompt(ask)
        self._require_short(ask.model, len(prompt), "prompt" if ask.prompt is not None else "messages")
        unknown = next((i for i in ask.sampling.logit_bias if not 0 <= i < words.vocabulary), None)
        if unknown is not None:
            raise AskError(f"logit_bias: the model has no token {unknown}", param="logit_bias")
        matcher = words.constraint(ask)
        handle = Handle(ask.n, len(prompt))
        if ask.sampling.max_tokens > self.limits.answer_tokens:
            ask = replace(ask, sampling=replace(ask.sampling, max_tokens=self.limits.answer_tokens))
        works = [Work(ask, index, prompt, words, handle, matcher) for index in range(ask.n)]
        model = key_of(ask.model)
        with self._changed:
            self._require_open()
            self._batcher.add([Waiting(ask.key, model, work) for work in works])
            self._changed.notify_all()
        return handle

    def embed(self, model: Served, inputs: Sequence[str | Sequence[int]]) -> Future[tuple[list[list[float]], int]]:
        """(a vector of length 1 for each input, tokens read); raises as `submit` does."""
        words = self._library.of(model)
        asked = [words.prompt(Ask(model, Sampling(1), prompt=one)) for one in inputs]
        for ids in asked:
            self._require_short(model, len(ids), "input")

        found: Future[tuple[list[list[float]], int]] = Future()

        def order() -> bool:
            try:
                slot = self._slots.hold(model)
            except NoRoomError as error:
                if error.held:
                    return False
                raise
            try:
                with slot.on() as loaded:
                    parts = [asked[i : i + _EMBEDDED_AT_ONCE] for i in range(0, len(asked), _EMBEDDED_AT_ONCE)]
                    vectors = [vector for part in parts for vector in embeddings(loaded, part, words.pad_id)]
                found.set_result((vectors, sum(map(len, asked))))
            finally:
                self._slots.give_back(slot)
            return True

        self._give(order, found)
        return found

    def tokens(self, model: Served, text: str) -> list[int]:
        """A text as the model's tokenizer marks it."""
        return self._library.of(model).tokens(text)

    def text(self, model: Served, ids: Sequence[int]) -> str:
        """Tokens as text, special ones included."""
        return self._library.of(model).text(ids)

    def context(self, model: Served) -> int | None:
        """The most tokens that prompt and answer have together; None where nothing binds them."""
        return context_of(model)

    def forget(self, folder: Path) -> Future[None]:
        """Drop what was loaded from a folder (an adapter's, or a base's) as soon as nobody uses it, as after its
        deletion."""
        gone: Future[None] = Future()

        def order() -> bool:
            free = self._slots.forget(folder)
            if free:
                gone.set_result(None)
            return free

        self._give(order, gone)
        return gone

    def load(self) -> Load:
        """How things stand."""
        with self._changed:
            waiting = len(self._batcher)
        return Load(waiting, sum(running.going for running in list(self._live)), dict(self._loaded))

    def close(self) -> None:
        """End the thread; what is under way ends with ClosedError."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _give(self, order: Order, future: Future[Any]) -> None:
        """Have an order done by the thread; what it raises ends the future."""

        def carefully() -> bool:
            try:
                return future.cancelled() or order()
            except Exception as error:
                future.set_exception(error)
                return True

        with self._changed:
            self._require_open()
            self._orders.append((carefully, future))
            self._changed.notify_all()

    def _require_open(self) -> None:
        if self._closing:
            raise ClosedError("the service has ended")

    def _require_short(self, model: Served, tokens: int, param: str) -> None:
        """An answer has at least one token."""
        context = context_of(model)
        most = min(self.limits.prompt_tokens, context - 1 if context else self.limits.prompt_tokens)
        if tokens > most:
            raise TooLongError(tokens, most, param=param)

    def _work(self) -> None:
        """The thread. Whatever ends it, nobody is left waiting."""
        try:
            self._loop()
        finally:
            self._end()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._live or self._orders or len(self._batcher)):
                    self._changed.wait()
                if self._closing:
                    return
                self._batcher.drop(lambda waiting: not waiting.work.handle.open)
                orders, self._orders = self._orders, deque()
            left = [one for one in orders if not one[0]()]
            with self._changed:
                self._orders.extendleft(reversed(left))
            self._admit()
            for running in list(self._live):
                self._step(running)
            self._loaded = self._slots.loaded()

    def _admit(self) -> None:
        """Begin as many batches as there is room for."""
        while len(self._live) < self.limits.batches:
            room = self.limits.rows - sum(running.going for running in self._live)
            with self._changed:
                first = self._batcher.first()
            room_left = _Room(self.limits.tokens - sum(running.tokens for running in self._live), bool(self._live))
            if room <= 0 or first is None or not replace(room_left).fits(first):
                return
            slot: Slot | Exception
            try:
                slot = self._slots.hold(first.work.ask.model)
            except NoRoomError as error:
                if error.held:
                    return
                slot = error
            except Exception as error:
                slot = error
            with self._changed:
                works: list[Work] = [waiting.work for waiting in self._batcher.take(room, room_left.fits)]
            self._begin(slot, works)

    def _begin(self, slot: Slot | Exception, works: list[Work]) -> None:
        """A batch of what was taken; or tell why its model cannot be had."""
        if isinstance(slot, Exception):
            for work in works:
                work.handle.fail(_clear(slot))
            return
        try:
            self._live.append(Running(slot, works))
        except Exception as error:
            self._slots.give_back(slot)
            for work in works:
                work.handle.fail(_clear(error))

    def _step(self, running: Running) -> None:
        """One token; what goes wrong ends this batch alone."""
        try:
            going = running.step()
        except Exception as error:
            running.fail(_clear(error))
            going = False
        if not going:
            self._live.remove(running)
            self._slots.give_back(running.slot)

    def _end(self) -> None:
        """Tell all who still wait."""
        closed = ClosedError("the service ended before the answer did")
        for running in self._live:
            running.fail(closed)
        with self._changed:
            self._closing = True
            for waiting in self._batcher.drop(lambda _: True):
                waiting.work.handle.fail(closed)
            for _, future in self._orders:
                future.set_exception(closed)


@dataclass
class _Room:
    """Tokens that still fit beside what is under way."""

    tokens: int
    strict: bool
    """Without it the first fits whatever its size: it would never find more room."""

    def fits(self, waiting: Waiting) -> bool:
        """Whether it does; it is counted then."""
        self.tokens -= waiting.work.tokens
        fits = self.tokens >= 0 or not self.strict
        self.strict = True
        return fits


def _clear(error: Exception) -> Exception:
    """A shortage of memory in words; anything else as it is."""
    if isinstance(error, TunesmithError) or not memory.out_of_memory(error):
        return error
    return NoRoomError("there is no memory to answer this now", why=str(error), mend="ask for less at once")
