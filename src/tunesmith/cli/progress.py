"""Events of a journey as a live line on a terminal, or as plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from ..core.events import Event, Note, PhaseEnded, PhaseStarted, Progress, StageEnded, StageStarted, StepDone, Validated
from .console import State, err, say

TOLD_SECONDS = 5.0
"""What took less is not told of."""
PLAIN_SECONDS = 10.0
"""Without a terminal a progress line appears at most this often."""
_TITLES = {
    "check": "checking the data",
    "load": "loading the base",
    "score base": "scoring the base on the test rows",
    "train": "training",
    "score tuned": "scoring the tuned model on the same rows",
    "report": "judging and writing the report",
}


class Watch:
    """A sink for events; use it as a context manager so that the bar is always taken down."""

    def __init__(self) -> None:
        live = err.is_terminal and not State.quiet
        columns = (
            TextColumn("{task.description}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Bar(*columns, console=err, transient=True) if live else None
        self._task = self._bar.add_task("", total=1, note="", visible=False) if self._bar else None
        self._last = 0.0

    def __enter__(self) -> Watch:
        self._last = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case PhaseStarted(phase, detail):
                say(f"[bold]{_TITLES[phase]}[/]{' ' + escape(detail) if detail else ''}")
                self._last = time.monotonic()
            case PhaseEnded(phase, seconds):
                self._hide()
                say(f"  [dim]{_TITLES[phase]}: {seconds:.1f} s[/]")
            case StageStarted(name):
                self._stage(name)
            case StageEnded(name, seconds) if seconds >= TOLD_SECONDS:
                self._hide()
                say(f"  [dim]{name}: {seconds:.1f} s[/]")
            case Progress(done, total, unit):
                self._advance(done, total, unit)
            case StepDone():
                note = (
                    f"loss {event.loss:.3f}  {event.tokens_per_s:,.0f} tokens/s  {_duration(event.seconds_left)} left"
                )
                self._advance(event.step, event.total_steps, note)
            case Validated(step, loss, best):
                say(f"  step {step}: validation loss {loss:.4f}{' (best so far)' if best else ''}")
            case Note(text, level):
                say(f"  [yellow]note:[/] {escape(text)}" if level == "warning" else f"  {escape(text)}")

    def _stage(self, name: str) -> None:
        """That a stage runs which may have nothing to count for a while."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=f"  {name}", completed=0, total=None, note="", visible=True)
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            say(f"  {name} ...")

    def _advance(self, done: int, total: int | None, note: str) -> None:
        if self._bar and self._task is not None:
            self._bar.update(
                self._task, description="  step" if "loss" in note else "  ", completed=done, total=total, note=note,
                visible=True,
            )  # fmt: skip
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            say(f"  {done:,}{'' if total is None else f'/{total:,}'} {note}")

    def _hide(self) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, visible=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
