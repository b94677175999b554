"""`tunesmith report`: build a run's page again."""

from __future__ import annotations

from .console import out, print_json
from .options import Json, RunArgument


def command(run: RunArgument, json: Json = False) -> None:
    """Rebuild report.html from the run's files."""
    from ..pipelines.report_facts import page
    from ..pipelines.rundir import RunDir

    opened = RunDir.open(run)
    opened.write_text("report.html", page(opened))
    if json:
        print_json({"report": str(run / "report.html")})
    else:
        out.print(run / "report.html")
