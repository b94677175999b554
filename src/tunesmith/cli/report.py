"""`tunesmith report`: build a run's page again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import out, print_json
from .options import Json, RunArgument


def command(
    run: RunArgument,
    learning_curve: Annotated[
        Path | None,
        typer.Option("--learning-curve", help="A curve.json of the same recipe, to be shown from now on."),
    ] = None,
    json: Json = False,
) -> None:
    """Rebuild report.html from the run's files."""
    from ..pipelines import report_growth
    from ..pipelines.report_facts import page
    from ..pipelines.rundir import RunDir

    opened = RunDir.open(run)
    if learning_curve:
        report_growth.keep(report_growth.read(learning_curve), opened)
    opened.write_text("report.html", page(opened))
    if json:
        print_json({"report": str(run / "report.html")})
    else:
        out.print(run / "report.html")
