"""`tunesmith audit`: the log of what was done, and whether it is whole."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.errors import ContentError
from .console import out, print_json
from .options import Json
from .stores import Database, Storage, opened, when

app = typer.Typer(no_args_is_help=True, help="The log of what was done, and whether it is whole.")


@app.command("verify")
def verify(database: Database = None, storage: Storage = None, json: Json = False) -> None:
    """Read the whole chain. Exit 3 with the first entry that was edited, removed, inserted or moved."""
    from ..governance import audit

    found = audit.verify(opened(database, storage))
    if json:
        print_json(vars(found) | {"ok": found.bad is None})
    elif found.bad is None:
        out.print(f"{found.entries} entries, all as they were written\nhead: {found.head}")
    if found.bad is not None:
        raise ContentError(
            "the audit log is not what was written", where=f"entry {found.bad}", why=found.why,
            mend="restore the database from before the change; entries up to it can be trusted",
        )  # fmt: skip


@app.command("list")
def show(
    after: Annotated[int, typer.Option("--after", min=0, help="Entries behind this number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    project: Annotated[str | None, typer.Option("--project", help="Of this project alone.")] = None,
    database: Database = None, storage: Storage = None, json: Json = False,
) -> None:  # fmt: skip
    """Entries in their order: who did what to which, and when."""
    from ..governance import audit
    from . import show as tables

    found = audit.entries(opened(database, storage), project_id=project, after=after, limit=limit)
    if json:
        print_json({"entries": [vars(entry) for entry in found]})
        return
    rows = [(str(e.number), when(e.at), e.actor, e.action, e.target) for e in found]
    tables.table("Audit log", ("number", "when (UTC)", "who", "what", "which"), rows, ("number",))
