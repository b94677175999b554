"""`tunesmith doctor`: what this machine has, what is missing, what each extra brings."""

from __future__ import annotations

from pathlib import Path

from .console import out, print_json
from .options import Json

_MARKS = {"ok": "[green]ok[/]     ", "warn": "[yellow]warn[/]   ", "missing": "[dim]missing[/]"}


def command(json: Json = False) -> None:
    """Examine this machine."""
    from rich.markup import escape

    from ..pipelines.doctor import as_json, examine

    checks = examine(Path.cwd())
    if json:
        print_json(as_json(checks))
        return
    for check in checks:
        out.print(f"{_MARKS[check.state]} [bold]{escape(check.name)}[/]: {escape(check.text)}")
        if check.mend:
            out.print(f"          {escape(check.mend)}")
