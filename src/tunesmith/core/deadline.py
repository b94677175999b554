"""A limit in time for pure Python that nobody here wrote, as chat templates become."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class DeadlineError(Exception):
    """The block took too long."""

    def __init__(self) -> None:
        super().__init__("it took too long")


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise DeadlineError inside the block, in whatever thread it runs, when it takes longer.

    It comes between two steps of the interpreter: a single long call into C is not cut short, and `except Exception`
    inside the block may catch it. Nothing is raised once the block has been left.
    """
    thread = ctypes.c_ulong(threading.get_ident())
    lock = threading.Lock()
    left = fired = False

    def fire() -> None:
        nonlocal fired
        with lock:
            if not left:
                fired = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(DeadlineError))

    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            left = True
        timer.cancel()
        if fired:  # it may be on its way still
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
