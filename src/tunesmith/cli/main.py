"""The entry point: flags that hold everywhere, every command, errors to exit codes."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from .. import __version__
from ..core.errors import MissingError, OutputError, TunesmithError
from ..core.later import spare_scipy, spare_searches
from . import audit, data, import_, jobs, keys, migrate
from .console import State, err, show_error
from .processes import leave

_EPILOG = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 recipe or data wrong, 4 not found, 5 not allowed, 6 conflict, "
    "7 cannot write, 10 the gate said no, 75 interrupted (resume), 130 Ctrl-C."
)
_COMMANDS = (
    "demo", "init", "check", "run", "train", "evaluate", "compare", "pilot", "runs", "report", "chat", "rate",
    "generate", "index", "export", "methods", "advise", "bench", "doctor", "serve", "worker",
)  # fmt: skip

app = typer.Typer(
    name="tunesmith", no_args_is_help=True, add_completion=True, epilog=_EPILOG, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode=None,
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def flags(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only results and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and libraries' messages.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a general language model into a specialist, and prove it.

    First steps: tunesmith demo | tunesmith init FILE | tunesmith run RECIPE --out DIR
    """
    State.quiet, State.debug = quiet, debug


for _name in _COMMANDS:
    app.command(_name)(import_module(f".{_name}", __package__).command)
app.add_typer(data.app, name="data")
app.add_typer(import_.app, name="import")
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(migrate.app, name="migrate")


def main() -> None:
    """Run the command line; the process ends with the documented exit code."""
    spare_searches()
    spare_scipy()
    arguments = _global_flags_first(sys.argv[1:])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "--debug" not in arguments:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    leave(_run(arguments))


def _run(arguments: list[str]) -> int:
    try:
        app(args=arguments, prog_name="tunesmith")
    except SystemExit as end:
        return int(end.code or 0) if isinstance(end.code, int | None) else 1
    except KeyboardInterrupt:
        err.print("interrupted")
        return 130
    except TunesmithError as error:
        return _failed(error)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        told = _told(error)
        if told:
            return _failed(told)
        return _unexpected(error)
    except Exception as error:
        return _unexpected(error)
    return 0


def _told(error: OSError) -> TunesmithError | None:
    """An error of the system that no part expected, for people; None where it says nothing about the disk.

    A refusal does not say what was refused: a file that is there and cannot be read was to be read, for writes replace
    a file and never open it; else it may have been either.
    """
    place, why = str(error.filename or ""), error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
        return OutputError(f"cannot write {place}".strip(), why=why, mend="free space or choose another folder")
    if error.errno not in (errno.EACCES, errno.EPERM):
        return None
    if place and os.access(place, os.F_OK) and not os.access(place, os.R_OK):
        return MissingError(f"cannot read {place}", why=why, mend="ask for the right to read it, or name another")
    return OutputError(f"cannot read or write {place}".strip(), why=why, mend="choose a place that you may write to")


def _failed(error: TunesmithError) -> int:
    if State.debug:
        err.print_exception()
    show_error(error)
    return error.exit_code


def _unexpected(error: Exception) -> int:
    """A fault of ours: say so in a line, and how to see more."""
    if State.debug:
        err.print_exception()
    first = (str(error).splitlines() or [""])[0]
    show_error(
        TunesmithError(
            f"unexpected: {type(error).__name__}: {first}",
            mend="run again with --debug and report what it shows",
        )
    )
    return 1


def _global_flags_first(arguments: list[str]) -> list[str]:
    """`tunesmith run ... --debug` works like `tunesmith --debug run ...`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head, tail = arguments[:end], arguments[end:]
    moved: list[Any] = [flag for flag in ("--quiet", "--debug") if flag in head]
    return [*moved, *(a for a in head if a not in moved), *tail]
