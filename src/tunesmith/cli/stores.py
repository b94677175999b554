"""The store that commands of the service work on, and how they show its records."""

from __future__ import annotations

import getpass
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..store.database import Store

Database = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="URL", envvar="TUNESMITH_DATABASE", show_default=False,
        help="The database: sqlite:///FILE or postgresql://...; tunesmith.db in the storage unless given.",
    ),
]  # fmt: skip
Storage = Annotated[
    Path | None,
    typer.Option(
        "--storage", metavar="DIR", show_default=False,
        help="Folder of files, jobs and runs; TUNESMITH_HOME unless given.",
    ),
]  # fmt: skip


def opened(database: str | None, storage: Path | None) -> Store:
    """The store that the options name."""
    from ..store.database import Store

    return Store.open(database, storage)


def actor() -> str:
    """Who types, for the audit log."""
    with suppress(OSError, KeyError):
        return f"local:{getpass.getuser()}"
    return "local"


def when(seconds: float | None) -> str:
    """A time for people, in UTC."""
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
