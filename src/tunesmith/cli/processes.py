"""`--nproc`: the same command in several processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .console import State, say


def in_processes(
    command: str, recipe: Path, out: Path, *, resume: bool, settings: Sequence[str], json: bool, processes: int
) -> None:
    """Start `command` in so many processes and end with its exit code."""
    from ..pipelines.launch import launch

    flags = [("--resume", resume), ("--json", json), ("--quiet", State.quiet), ("--debug", State.debug)]
    sets = [word for setting in settings for word in ("--set", setting)]
    arguments = [command, str(recipe), "--out", str(out), *sets, *(flag for flag, given in flags if given)]
    sys.exit(launch(arguments, processes, say))


def leave(code: int) -> NoReturn:
    """End this process. One of several leaves its group and goes without taking libraries apart: their threads may
    still wait for a peer, and abort a process whose work is done."""
    engine = sys.modules.get("tunesmith.engine.distributed")
    if "WORLD_SIZE" not in os.environ or engine is None:
        sys.exit(code)
    with suppress(Exception):  # a peer that died first is no news
        engine.stop()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def rank() -> int:
    """This process's place among those of a run; 0 alone."""
    return int(os.environ.get("RANK", "0"))
