"""Rows to tokens on all cores: what `encode_rows` does, by several processes where there are rows enough.

Rendering a template is Python, which keeps to one core; a process for each core renders and cuts into tokens. They
begin as soon as the rows are read, while this process still looks at them. Rows go over and tokens come back through
pipes, a portion at a time, and wait in a spool until they are asked for. A worker ends when its pipe does, so none
outlives this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue
from threading import Condition, Thread
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import clock
from ..core.errors import TunesmithError
from ..core.messages import Example
from ..data.rows import pick, records
from ..data.spool import Spool
from ..data.template import TemplateError, Tokenizer
from ..data.tokenize import Pieces, encode_rows
from ..data.wire import packed_rows, read_frame, unpacked_pieces, write_frame

ENOUGH_ROWS = 20_000
"""Fewer are tokenized before the workers have started."""
PORTION = 512
MOST_WORKERS = 8

Shown = tuple[Example, Pieces | TemplateError]


class Encoding:
    """The tokens of a set of rows. Use it as a context manager: its processes end with the block.

    `base` and `date` are what the workers load their tokenizer by. Where `workers` does not say how many there shall
    be, they are as many as this process has cores for itself; with one core, or few rows, this process does it alone.
    """

    def __init__(
        self, base: str, tokenizer: Tokenizer, rows: Sequence[Example], workers: int | None = None,
        date: str | None = None,
    ):  # fmt: skip
        self._tokenizer, self._rows = tokenizer, rows
        if workers is None:
            workers = min(_cores(), MOST_WORKERS) if len(rows) >= ENOUGH_ROWS else 1
        self._background = _Background(base, date or clock.today(), rows, workers) if workers > 1 else None

    def __enter__(self) -> Encoding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._background:
            self._background.close()

    def of(self, places: NDArray[np.int64]) -> Iterator[Shown]:
        """The rows at these places, which rise, with what `encode_rows` makes of each.

        TunesmithError where a worker has ended.
        """
        if not self._background:
            return encode_rows(self._tokenizer, pick(self._rows, places))
        return self._picked(self._background, places)

    def _picked(self, background: _Background, places: NDArray[np.int64]) -> Iterator[Shown]:
        wanted = np.zeros(len(self._rows), dtype=bool)
        wanted[places] = True
        begin = 0
        for frame in background.frames():
            keep = wanted[begin : begin + PORTION]
            portion = pick(self._rows, np.arange(begin, begin + len(keep)))
            begin += len(keep)
            if keep.any():
                yield from (shown for shown, kept in zip(unpacked_pieces(portion, frame), keep, strict=True) if kept)


def _cores() -> int:
    """Those of this process: several that train together share the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


class _Background:
    """Workers, and a thread that hands them the rows and keeps what comes back, a frame for each portion."""

    def __init__(self, base: str, date: str, rows: Sequence[Example], count: int):
        self._rows = rows
        self._workers = [_Worker(base, date) for _ in range(count)]
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._spool, self._told = Spool(), Condition()
        self._error: BaseException | None = None
        self._closed = False
        self._thread = Thread(target=self._run, name="tokens", daemon=True)
        self._thread.start()

    def frames(self) -> Iterator[bytes]:
        """Every portion's frame in order, as soon as it is there."""
        for number in range(-(-len(self._rows) // PORTION)):
            with self._told:
                while len(self._spool) <= number:
                    if self._error:
                        raise self._error
                    self._told.wait()
                frame = self._spool[number]
            yield frame

    def close(self) -> None:
        """End the workers and the thread."""
        self._closed = True
        for worker in self._workers:
            worker.close()
        self._thread.join()

    def _run(self) -> None:
        waiting: deque[Future[bytes]] = deque()
        kept = records(self._rows)
        with ThreadPoolExecutor(len(self._workers)) as threads:
            try:
                for begin in range(0, len(self._rows), PORTION):
                    size = min(PORTION, len(self._rows) - begin)
                    waiting.append(threads.submit(self._ask, packed_rows(list(islice(kept, size)))))
                    if len(waiting) > 2 * len(self._workers):
                        self._keep(waiting.popleft().result())
                while waiting:
                    self._keep(waiting.popleft().result())
            except BaseException as error:  # whoever waits for tokens raises it
                for future in waiting:
                    future.cancel()
                with self._told:
                    self._error = error
                    self._told.notify_all()

    def _ask(self, rows: bytes) -> bytes:
        """A portion done by the next worker that is free."""
        worker = self._free.get()
        try:
            return worker.ask(rows)
        finally:
            self._free.put(worker)

    def _keep(self, frame: bytes) -> None:
        if self._closed:
            raise TunesmithError("the tokens of these rows are no longer wanted")
        with self._told:
            self._spool.append(frame)
            self._told.notify_all()


class _Worker:
    """A process that makes tokens of rows."""

    def __init__(self, base: str, date: str):
        # One thread each: there is a worker for every core. In a session of its own, a Ctrl-C is this process's alone.
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tunesmith.pipelines.encode_worker", base, date]
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  our own interpreter
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )

    def ask(self, rows: bytes) -> bytes:
        """One portion there and back. TunesmithError where the process has ended."""
        stdin, stdout = self._pipes()
        try:
            write_frame(stdin, rows)
            answer = read_frame(stdout)
        except (BrokenPipeError, ValueError):  # ValueError: the pipe was closed
            answer = None
        if answer is None:
            raise TunesmithError(
                "a process that makes tokens of rows ended", why=f"exit status {self._process.wait()}",
                mend="run again; when it happens again, free some memory: the system may have ended it",
            )  # fmt: skip
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
        for pipe in self._pipes():
            with suppress(BrokenPipeError):
                pipe.close()

    def _pipes(self) -> tuple[Any, Any]:
        return self._process.stdin, self._process.stdout
