"""Work on rows by all cores: a process for each core does what can be done to every row by itself.

Python keeps to one core. So where there are rows enough they go over to workers, and what is made of them comes back
through pipes, a portion at a time, and waits in a spool until it is asked for. Tasks are done one behind the other, in
the order in which they were given, beside whatever this process does meanwhile. A worker ends when its pipe does, so
none outlives this process.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..core import clock
from ..core.errors import TunesmithError
from ..data.spool import Spool
from ..data.wire import packed_rows, read_frame, write_frame

ENOUGH_ROWS = 20_000
"""Fewer are done before the workers have started."""
PORTION = 512
MOST_WORKERS = 8
PIPE = 1 << 20
"""Bytes that a pipe holds where the system allows it. A portion fits: its worker does not wait until it is read."""
AHEAD = 2
"""Portions that a worker has at once: one is done while the next already lies in its pipe."""
SWITCH = 5e-4
"""Seconds after which Python lets another thread go on, a tenth of the usual: so long a worker waits that is done."""


class Crew:
    """Workers. Use it as a context manager: they start with the first task, and end with the block.

    `base` and `date` are what they load their tokenizer by. Where `workers` does not say how many there shall be, they
    are as many as this process has cores for itself; with one core, or few rows, this process does all by itself.
    """

    def __init__(self, base: str, date: str | None = None, workers: int | None = None):
        self._base, self._date, self._asked = base, date or clock.today(), workers
        self._count = workers or min(_cores(), MOST_WORKERS)
        self._running: _Running | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running:
            self._running.close()

    def takes(self, rows: int) -> bool:
        """Whether so many rows are given to workers."""
        return self._count > 1 and (self._asked is not None or rows >= ENOUGH_ROWS)

    def do(self, task: Mapping[str, Any], records: Iterable[bytes]) -> Answers:
        """Begin a task (`crew_worker.work`) on rows, each as its JSON; they may still be coming."""
        if not self._running:
            self._running = _Running([_Worker(self._base, self._date) for _ in range(self._count)])
        return self._running.do(task, records)


def _cores() -> int:
    """Those of this process: several that train together share the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


class Answers:
    """What workers make of rows: a frame for each portion. It is written by one thread and read by another."""

    def __init__(self) -> None:
        self._spool, self._told = Spool(), Condition()
        self._whole = False
        self._error: BaseException | None = None

    def keep(self, frame: bytes) -> None:
        """One more."""
        with self._told:
            self._spool.append(frame)
            self._told.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """There are no more, for there are no more rows or because of an error."""
        with self._told:
            self._whole, self._error = True, self._error or error
            self._told.notify_all()

    def frames(self) -> Iterator[bytes]:
        """Every portion's in order, as soon as it is there. TunesmithError where a worker has ended."""
        number = 0
        while True:
            with self._told:
                while len(self._spool) <= number and not self._whole:
                    self._told.wait()
                if len(self._spool) <= number:
                    if self._error:
                        raise self._error
                    return
                frame = self._spool[number]
            number += 1
            yield frame

    def at(self, places: NDArray[np.int64], rows: int) -> Iterator[tuple[bytes, list[bool]]]:
        """Every frame, and for each of its rows whether it is wanted: those at `places`, which rise, of all `rows`."""
        wanted = np.zeros(rows, dtype=bool)
        wanted[places] = True
        for number, frame in enumerate(self.frames()):
            yield frame, wanted[number * PORTION : (number + 1) * PORTION].tolist()


class _Running:
    """Workers at work, and a thread that hands them the rows and keeps what comes back."""

    def __init__(self, workers: Sequence[_Worker]):
        self._workers = workers
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        for worker in [*workers] * AHEAD:
            self._free.put(worker)
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        self._tasks: SimpleQueue[tuple[bytes, Iterator[bytes], Answers] | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._run, name="crew", daemon=True)
        self._thread.start()

    def do(self, task: Mapping[str, Any], records: Iterable[bytes]) -> Answers:
        """Put a task behind the others."""
        answers = Answers()
        self._tasks.put((orjson.dumps(task), iter(records), answers))
        return answers

    def close(self) -> None:
        """End the workers and the thread."""
        self._closed = True
        self._tasks.put(None)
        for worker in self._workers:
            worker.close()
        self._thread.join()
        sys.setswitchinterval(self._switch)

    def _run(self) -> None:
        with ThreadPoolExecutor(AHEAD * len(self._workers)) as threads:
            while given := self._tasks.get():
                task, records, answers = given
                try:
                    self._do(threads, task, records, answers)
                    answers.end()
                except BaseException as error:  # whoever waits for the answers raises it
                    answers.end(error)

    def _do(self, threads: ThreadPoolExecutor, task: bytes, records: Iterator[bytes], answers: Answers) -> None:
        waiting: deque[Future[bytes]] = deque()
        try:
            while portion := list(islice(records, PORTION)):
                waiting.append(threads.submit(self._ask, task, packed_rows(portion)))
                if len(waiting) > 2 * AHEAD * len(self._workers):
                    answers.keep(waiting.popleft().result())
            while waiting:
                answers.keep(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()

    def _ask(self, task: bytes, rows: bytes) -> bytes:
        """A portion done by the next worker that has room for one more."""
        if self._closed:
            raise TunesmithError("what is made of these rows is no longer wanted")
        worker = self._free.get()
        try:
            return worker.ask(task, rows)
        finally:
            self._free.put(worker)


class _Worker:
    """A process that does tasks on rows."""

    def __init__(self, base: str, date: str):
        # One thread each: there is a worker for every core. In a group of its own, a Ctrl-C is this process's alone.
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tunesmith.pipelines.crew_worker", base, date]
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  our own interpreter
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, process_group=0
        )
        for pipe in self._pipes():
            with suppress(OSError, AttributeError):  # the system allows less, or has no such thing
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
        self._asking, self._answering = Lock(), Lock()

    def ask(self, task: bytes, rows: bytes) -> bytes:
        """One portion there and back, from several threads if need be. TunesmithError where the process has ended."""
        stdin, stdout = self._pipes()
        try:
            with self._asking:
                write_frame(stdin, task)
                write_frame(stdin, rows)
                self._answering.acquire()  # who asks next waits till the one before has its answer
            try:
                answer = read_frame(stdout)
            finally:
                self._answering.release()
        except (BrokenPipeError, ValueError):  # ValueError: the pipe was closed
            answer = None
        if answer is None:
            raise TunesmithError(
                "a process that works on rows ended", why=f"exit status {self._process.wait()}",
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
