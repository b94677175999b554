"""One request on its way between the thread that answers and whoever waits. Loads no torch."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from .ask import Choice, Finish, Piece, Usage


class Handle:
    """One request on its way. Iterate it once, from a thread or from an event loop."""

    def __init__(self, answers: int, prompt_tokens: int):
        self.usage = Usage(prompt_tokens)
        self.cancelled = False
        """Whether nobody waits any more."""
        self._answers = answers
        self._changed = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._error: BaseException | None = None
        self._wake: Callable[[], None] | None = None
        self._going = answers

    def __iter__(self) -> Iterator[Piece]:
        """Pieces of all answers as they come, blocking. Raises what ended the request early; after `cancel` it just
        ends."""
        while True:
            with self._changed:
                while not self._pieces and not self._over:
                    self._changed.wait()
                piece = self._next()
            if piece is None:
                return
            yield piece

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The same for an event loop, without a thread for each request. One that is left early is cancelled."""
        loop, more = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(more.set)

        with self._changed:
            self._wake = wake
            more.set()
        try:
            while True:
                await more.wait()
                more.clear()
                while True:
                    with self._changed:
                        piece = self._next()
                        over = self._over and not self._pieces
                    if piece is not None:
                        yield piece
                    elif over:
                        return
                    else:
                        break
        finally:
            with self._changed:
                self._wake = None
            if not self._over:
                self.cancel()

    def cancel(self) -> None:
        """No more tokens; from any thread, as often as one likes. Effective within one token."""
        with self._changed:
            self.cancelled = True
            self._notify()

    def choices(self) -> list[Choice]:
        """Wait for all answers, in their order; those that were cancelled are not among them."""
        return _gathered(self, self._answers)

    async def achoices(self) -> list[Choice]:
        """The same for an event loop."""
        return _gathered([piece async for piece in self], self._answers)

    def put(self, piece: Piece, tokens: int) -> None:
        """Of the thread that answers: the next piece, with how many tokens it counts."""
        with self._changed:
            if self._error or self.cancelled:
                return
            self.usage.completion_tokens += tokens
            self._pieces.append(piece)
            self._going -= piece.finish_reason is not None
            self._notify()

    def fail(self, error: BaseException) -> None:
        """Of the thread that answers: this will not be answered. Pieces that are there are given first."""
        with self._changed:
            self._error = self._error or error
            self._notify()

    @property
    def open(self) -> bool:
        """Whether anybody waits for more."""
        return not self._over

    @property
    def _over(self) -> bool:
        return self.cancelled or self._error is not None or not self._going

    def _next(self) -> Piece | None:
        """The next piece that is there; None where there is none, raising what ended the request."""
        if self.cancelled:
            self._pieces.clear()
        elif self._pieces:
            return self._pieces.popleft()
        elif self._error:
            raise self._error
        return None

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake:
            try:
                self._wake()
            except RuntimeError:  # the event loop is closed: nobody waits there
                self.cancelled = True


def _gathered(pieces: Iterable[Piece], answers: int) -> list[Choice]:
    """Whole answers, by their numbers."""
    parts: list[list[Piece]] = [[] for _ in range(answers)]
    for piece in pieces:
        parts[piece.index].append(piece)
    choices = []
    for mine in parts:
        finish: Finish | None = mine[-1].finish_reason if mine else None
        if finish is not None:
            choices.append(
                Choice(
                    "".join(piece.text for piece in mine), finish,
                    tuple(token for piece in mine for token in piece.token_ids),
                    tuple(one for piece in mine for one in piece.logprobs),
                    tuple(call for piece in mine for call in piece.tool_calls),
                    tuple(one for piece in mine for one in piece.prompt),
                )
            )  # fmt: skip
    return choices
