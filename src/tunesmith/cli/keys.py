"""`tunesmith keys`: who may use the service, and for what."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import UsageError
from .console import out, print_json, say
from .options import Json
from .stores import Database, Storage, actor, opened, when

if TYPE_CHECKING:
    from ..governance.keys import Key

app = typer.Typer(no_args_is_help=True, help="API keys: who may use the service, and for what.")

_PERIOD = re.compile(r"(\d+)([hd])")
_SECONDS = {"h": 3600, "d": 86400}


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What or whom the key is for.", show_default=False)],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="read, infer, train, admin; several times. All unless given.")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="An id; made where there is none.")] = None,
    organization: Annotated[
        str, typer.Option("--organization", help="The slug in model names, for a project that is made.")
    ] = "personal",
    expires: Annotated[str | None, typer.Option("--expires", metavar="PERIOD", help="30d, 12h; never.")] = None,
    max_running: Annotated[int | None, typer.Option("--max-running", min=1, help="Jobs that train at a time.")] = None,
    max_queued: Annotated[int | None, typer.Option("--max-queued", min=1, help="Jobs that are not finished.")] = None,
    database: Database = None, storage: Storage = None, json: Json = False,
) -> None:  # fmt: skip
    """Make a key. It is shown this once: what is stored does not open anything."""
    from ..governance.keys import DEFAULT_PROJECT, SCOPES, Keys

    expires_at = None if expires is None else time.time() + _period(expires)
    keys = Keys(opened(database, storage))
    project = project or DEFAULT_PROJECT
    keys.add_project(project, project, organization, exist_ok=True)
    key, kept = keys.create(
        name=name, scopes=scope or SCOPES, project_id=project, expires_at=expires_at, max_running=max_running,
        max_queued=max_queued, actor=actor(),
    )  # fmt: skip
    if json:
        print_json(_facts(kept) | {"key": key})
    else:
        out.print(key, soft_wrap=True)
        say("keep it: it is not shown again")


@app.command("list")
def show(
    project: Annotated[str | None, typer.Option("--project", help="Of this project alone.")] = None,
    database: Database = None, storage: Storage = None, json: Json = False,
) -> None:  # fmt: skip
    """Every key, as far as it may be shown."""
    from ..governance.keys import Keys
    from . import show as tables

    found = Keys(opened(database, storage)).list(project)
    if json:
        print_json({"keys": [_facts(key) for key in found]})
        return
    columns = ("id", "key", "name", "project", "scopes", "created", "expires", "last used", "state")
    rows = [
        (k.id, k.shown, k.name, k.project_id, " ".join(k.scopes), when(k.created_at), when(k.expires_at),
         when(k.last_used_at), "revoked" if k.revoked_at else "") for k in found
    ]  # fmt: skip
    tables.table("Keys", columns, rows)


@app.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id; `tunesmith keys list` shows it.", show_default=False)],
    database: Database = None, storage: Storage = None, json: Json = False,
) -> None:  # fmt: skip
    """From now on the key opens nothing."""
    from ..governance.keys import Keys

    key = Keys(opened(database, storage)).revoke(id, actor=actor())
    if json:
        print_json(_facts(key))
    else:
        say(f"revoked: {key.shown}")


def _facts(key: Key) -> dict[str, object]:
    return vars(key) | {"scopes": list(key.scopes), "shown": key.shown}


def _period(text: str) -> float:
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text}' is no period", mend="--expires 30d, or 12h")
    return int(match.group(1)) * _SECONDS[match.group(2)]
