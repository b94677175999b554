"""`tunesmith import`: what other systems hold, as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from .console import out as stdout
from .console import print_json
from .options import Json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Bring in what other systems hold: csv-crm.")


@app.callback()
def group() -> None:
    """Bring in what other systems hold."""


@app.command("csv-crm")
def csv_crm(
    files: Annotated[
        list[Path],
        typer.Argument(help="The files of the export: CSV, JSON or JSON Lines, also .gz or .zst.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write: .jsonl.", show_default=False)],
    preset: Annotated[
        str | None, typer.Option("--preset", help="Whose export it is: zendesk, salesforce.", show_default=False)
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            "--mapping", help="What the columns mean (YAML); over a preset, what differs.", show_default=False
        ),
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only tickets with one of these: solved,closed.")
    ] = None,
    min_satisfaction: Annotated[
        str | None, typer.Option("--min-satisfaction", help="Only tickets rated so or better: good, or a number.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only tickets opened on this day or later.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only tickets opened on this day or before.")] = None,
    system: Annotated[str, typer.Option("--system", help="A system message for every row.")] = "",
    with_title: Annotated[
        bool, typer.Option("--with-title", help="Begin the first message with the ticket's subject line.")
    ] = False,
    json: Json = False,
) -> None:
    """Tickets and their comments to chat rows: customers' messages and the public replies of agents."""
    from ..data.tickets.filters import filters
    from ..pipelines.import_tickets import import_tickets
    from ..pipelines.read_mapping import read_mapping

    meant = read_mapping(preset, mapping)
    wanted = filters(meant, statuses=status or (), satisfaction=min_satisfaction, since=since, until=until)
    done = import_tickets(files, out, mapping=meant, wanted=wanted, system=system, with_title=with_title).as_json()
    if json:
        print_json(done)
    else:
        _show(done)


def _show(done: dict[str, Any]) -> None:
    """What was kept, and what was not and why."""
    tickets, comments, turns = done["tickets"], done["comments"], done["turns"]
    stdout.print(
        f"{done['rows']:,} rows from {tickets['read']:,} tickets with {comments['read']:,} comments: "
        f"{turns['user']:,} turns of customers, {turns['assistant']:,} of agents, written to {escape(done['path'])}"
    )
    for title, counted in (
        ("tickets left out", tickets["left_out"]), ("comments left out", comments["left_out"]),
        ("taken off messages", done["stripped"]),
    ):  # fmt: skip
        if counted:
            stdout.print(f"[bold]{title}[/]")
        for reason, count in counted.items():
            stdout.print(f"  {count:>7,}  {escape(reason)}")
    unreadable = done["unreadable"]
    if unreadable["rows"]:
        stdout.print(f"[yellow]{unreadable['rows']:,} rows or comments could not be read[/]")
        for problem in unreadable["first"]:
            stdout.print(f"  {escape(problem)}")
    for note in done["notes"]:
        stdout.print(f"[yellow]note:[/] {escape(note)}")
