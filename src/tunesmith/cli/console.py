"""Where words go: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape

from ..core.errors import GateError, InterruptedRunError, TunesmithError

PLAIN_WIDTH = 120
"""Columns where no terminal tells."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class State:
    """The flags that hold for every command."""

    quiet = False
    debug = False


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """A line for people on stderr, unless --quiet; of several processes the first speaks."""
    if not State.quiet and os.environ.get("RANK", "0") == "0":
        err.print(text)


def show_error(error: TunesmithError) -> None:
    """What, where, why, mend. Of several processes each tells what it alone knows."""
    if os.environ.get("RANK", "0") != "0" and (error.told or isinstance(error, GateError | InterruptedRunError)):
        return
    err.print(f"[bold red]error:[/] {escape(error.what)}")
    for label, text in error.parts():
        if text:
            err.print(f"  [bold]{label}:[/] {escape(text)}")
