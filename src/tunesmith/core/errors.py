"""Every error a user can meet, and the exit code each one ends a command with.

    TunesmithError            1  failed
    ├── UsageError            2  the command line is wrong
    ├── ContentError          3  the content of a recipe or of data is wrong
    ├── MissingError          4  a named file, base, run or hub is absent or cannot be reached
    ├── NotAllowedError       5  not allowed
    ├── ConflictError         6  something is already there, or differs from what it was
    ├── OutputError           7  output cannot be written (full, read-only, not a folder)
    ├── GateError            10  the gate said no
    └── InterruptedRunError  75 or 130  stopped by a signal; can be resumed
        └── ShortageError   76  one of several processes found no memory; a resumed run needs less

An error says what, where, why, and how to mend it. Nobody reads a traceback to learn any of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class TunesmithError(Exception):
    """Base of all errors meant for people.

    `what` is one sentence; `where` names a file, line or row; `why` adds the cause; `mend` says what to do.
    """

    exit_code = 1
    told = False
    """Whether another process of the same run tells it."""

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, mend: str | None = None):
        super().__init__(what)
        self.what, self.where, self.why, self.mend = what, where, why, mend

    def __str__(self) -> str:
        parts = [self.what]
        parts += [f"  {label}: {text}" for label, text in self.parts() if text]
        return "\n".join(parts)

    def parts(self) -> list[tuple[str, str | None]]:
        """The labelled lines below the first one."""
        return [("where", self.where), ("why", self.why), ("mend", self.mend)]


class UsageError(TunesmithError):
    """The command line is wrong."""

    exit_code = 2


class ContentError(TunesmithError):
    """The content of a recipe or of data is wrong."""

    exit_code = 3


class MissingError(TunesmithError):
    """A named file, base, run or hub is absent or cannot be reached."""

    exit_code = 4


class NotAllowedError(TunesmithError):
    """The caller may not do this."""

    exit_code = 5


class ConflictError(TunesmithError):
    """Something is already there, or differs from what it was."""

    exit_code = 6


class OutputError(TunesmithError):
    """Output cannot be written."""

    exit_code = 7


class GateError(TunesmithError):
    """The trained model did not pass its gate."""

    exit_code = 10


class InterruptedRunError(TunesmithError):
    """A signal stopped the run after a checkpoint was written. 130 for SIGINT, 75 for SIGTERM."""

    def __init__(self, what: str, *, exit_code: int = 75, mend: str | None = None):
        super().__init__(what, mend=mend)
        self.exit_code = exit_code


class ShortageError(InterruptedRunError):
    """One of several processes ran out of memory where the others could not be told; resumed, all compute with less."""

    exit_code = 76

    def __init__(self, what: str, *, why: str, mend: str | None = None):
        super().__init__(what, exit_code=self.exit_code, mend=mend)
        self.why = why


def nearest(name: str, known: Iterable[str]) -> str:
    """A phrase that lists the known names and, where one is close, asks whether it was meant."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    listed = "known: " + ", ".join(names)
    return f"did you mean '{close[0]}'? ({listed})" if close else listed
