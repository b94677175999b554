"""The one place that runs foreign code: answers of a model that are programs, and metrics in a user's file.

What is guaranteed, on Linux, as root and not: the code runs in a process of its own that
- ends when its time is over, wall clock and processor, and when the process that started it ends;
- holds no more memory than it is given, opens no more than 64 descriptors, and writes no file, but in a temporary
  folder where it is given one (each file up to a size; how many is not bounded);
- starts no process and no program, and no thread unless it is allowed them; sends no signal to others; has no network,
  and no socket but pairs within itself;
- reads Python's library, the system's shared libraries and what the caller names; no other file, nothing in /proc, and
  neither environment nor memory of any other process. Its own environment holds no secrets;
- says no more than 1 MiB, and then is ended.
It rests on two layers, each for good. A seccomp filter lists what is allowed (`seccomp`). Files, and with them other
processes, are out of reach by Landlock (`landlock`), or, where that is not offered, by a root of its own in a mount
namespace (`mounts`). User, network and IPC namespaces come on top where the system lets them. Where one of the two
layers cannot be had, nothing is run: NotAllowedError.

What is not guaranteed: that a flaw of the kernel is not used; that code does not find out where it runs, or whether it
is timed; that names and sizes of files (not contents) stay hidden, for `stat` is not confined; and that code which sets
out to forge its own success cannot do so: it lives in one process with what reports the result. A program that exits
early, by mistake or to skip its tests, has not succeeded.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from .errors import NotAllowedError

Ended = Literal["finished", "failed", "timeout", "memory", "output", "killed"]
_DESCRIPTORS = 64
_ENDS = ("output", "errors", "status", "result")
_MOST_OUTPUT = 1 << 20
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache",
           "/etc/localtime")  # fmt: skip
_STARTED = "import sys; sys.path.insert(0, {!r}); from tunesmith.core.confined import main; main()"


@dataclass(frozen=True)
class Limits:
    """Seconds of wall clock; mebibytes of memory, the interpreter's own 30 or so included; whether there may be
    threads; and mebibytes of one file in a temporary folder that is deleted afterwards, 0 for no such folder."""

    seconds: float = 10.0
    memory_mb: int = 512
    threads: bool = False
    scratch_mb: int = 0


@dataclass(frozen=True)
class Outcome:
    """How the code ended. `result` is what it left under that name; `output` and `errors` are what it wrote, cut at
    1 MiB together."""

    ended: Ended
    result: Any
    output: str
    errors: str
    seconds: float


def run(
    *parts: tuple[str, str],
    data: object = None,
    limits: Limits = Limits(),
    paths: Sequence[str] = (),
    readable: Sequence[str] = (),
) -> Outcome:
    """Run pieces of Python, (name, source) each, one after the other in one namespace.

    They find `data` (JSON) under this name, and may leave a `result` (JSON). `paths` are further places of modules,
    readable too. NotAllowedError where the system cannot confine a process.
    """
    started = time.monotonic()
    with ExitStack() as held:
        pipes = {name: _Pipe.made(held) for name in _ENDS}
        library = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
        scratch = held.enter_context(tempfile.TemporaryDirectory()) if limits.scratch_mb else None
        orders = {
            "parts": parts, "data": data, "paths": [*_standard_paths(), *paths], "status": pipes["status"].write,
            "result": pipes["result"].write, "readable": [*_SYSTEM, *library, *paths, *readable], "scratch": scratch,
            "file_mb": limits.scratch_mb, "memory_mb": limits.memory_mb, "threads": limits.threads,
            "cpu_seconds": math.ceil(limits.seconds) + 1, "descriptors": _DESCRIPTORS,
        }  # fmt: skip
        asked = held.enter_context(tempfile.TemporaryFile())
        asked.write(json.dumps(orders).encode())
        asked.seek(0)
        process = held.enter_context(_start(asked, pipes, scratch))
        held.callback(process.kill)  # whatever happens here, nobody waits for it
        for pipe in pipes.values():
            pipe.close_writing()
        said, why = _listen({pipe.read: name for name, pipe in pipes.items()}, started + limits.seconds)
        if why:
            process.kill()
        code = process.wait()
    if said["status"] != b"ready" and not why:
        raise refused(said["status"].decode("utf-8", "replace").removeprefix("refused: ") or _tail(said["errors"]))
    ended, value = _told(said["result"], code, why)
    output, errors = (said[name].decode("utf-8", "replace") for name in ("output", "errors"))
    return Outcome(ended, value, output, errors, time.monotonic() - started)


@cache
def require() -> None:
    """NotAllowedError where the system cannot confine a process; asked once."""
    if not sys.platform.startswith("linux"):
        raise refused(f"it needs Linux, and this is {sys.platform}")
    run(("<probe>", "result = 1"))


def refused(why: str) -> NotAllowedError:
    """The error of a system that does not offer what is needed."""
    return NotAllowedError(
        "foreign code is not run here: the system cannot confine it", why=why or "the confined process did not start",
        mend="use Linux with seccomp and with Landlock (5.13) or user namespaces, or leave out what runs code",
    )  # fmt: skip


@dataclass
class _Pipe:
    read: int
    write: int

    @staticmethod
    def made(held: ExitStack) -> _Pipe:
        """A pipe whose ends are closed with `held`."""
        pipe = _Pipe(*os.pipe())
        held.callback(os.close, pipe.read)
        held.callback(pipe.close_writing)
        return pipe

    def close_writing(self) -> None:
        """Once; the end of the other process's writing is seen only then."""
        if self.write >= 0:
            os.close(self.write)
        self.write = -1


def _start(orders: IO[bytes], pipes: Mapping[str, _Pipe], scratch: str | None) -> subprocess.Popen[bytes]:
    source = str(Path(__file__).parents[2])
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    folder = {"TMPDIR": scratch} if scratch else {}
    return subprocess.Popen(  # noqa: S603 - our own interpreter with a source of our own
        [sys.executable, "-I", "-S", "-B", "-c", _STARTED.format(source)],
        stdin=orders, stdout=pipes["output"].write, stderr=pipes["errors"].write,
        pass_fds=(pipes["status"].write, pipes["result"].write), cwd="/",
        env={"LANG": "C.UTF-8", "HOME": scratch or "/nonexistent", **single, **folder, **kept},
    )  # fmt: skip


@cache
def _standard_paths() -> tuple[str, ...]:
    """Where Python's own modules lie."""
    home = Path(sysconfig.get_path("stdlib"))
    return str(home), str(home / "lib-dynload"), sysconfig.get_path("platstdlib")


def _listen(places: dict[int, str], deadline: float) -> tuple[dict[str, bytes], Ended | None]:
    """All that is written until every end is closed; and why it was ended before, where it was."""
    said, size = dict.fromkeys(places.values(), b""), 0
    with selectors.DefaultSelector() as selector:
        for place in places:
            selector.register(place, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return said, "timeout"
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fd)
                name = places[key.fd]
                said[name] += chunk
                size += len(chunk)
            if size > _MOST_OUTPUT:
                return said, "output"
    return said, None


def _told(result: bytes, code: int, why: Ended | None) -> tuple[Ended, Any]:
    """How it ended, and what came of it."""
    if why:
        return why, None
    if not result:  # it left without a word: by os._exit, or ended from outside
        return ("timeout" if code == -signal.SIGXCPU else "killed" if code < 0 else "failed"), None
    try:
        told = json.loads(result)
        return told["ended"], told["result"]
    except (ValueError, KeyError, TypeError):
        return "failed", None


def _tail(errors: bytes) -> str:
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
