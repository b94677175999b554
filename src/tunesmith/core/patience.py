"""Asking what may never answer."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` gives or raises; TimeoutError when it does neither in time.

    A daemon thread asks: name look-ups and proxies ignore a client's time-outs, and nothing waits for it at the end.
    """
    outcome: Queue[tuple[T | None, Exception | None]] = Queue()

    def run() -> None:
        try:
            outcome.put((ask(), None))
        except Exception as error:  # handed over, and raised where it was asked
            outcome.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=seconds)
    except Empty as late:
        raise TimeoutError(f"no answer within {seconds:g} s") from late
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]  # None only where T is
