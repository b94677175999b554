"""The schema's versions: what `migrations/` says, carried out."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select
from sqlalchemy.engine import Engine

from ..core.errors import ConflictError

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x74756E65
"""What programs that start together wait for, so that one of them alone migrates."""


def config(connection: Connection | None = None) -> Config:
    """Alembic's settings; `connection` is what the migrations run on."""
    made = Config()
    made.set_main_option("script_location", str(_SCRIPTS))
    made.attributes["connection"] = connection
    return made


def newest() -> str:
    """The version that this program needs."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


def current(engine: Engine) -> str | None:
    """The version that the database has; None for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, to: str = "head") -> None:
    """Bring the database up to date in one transaction. ConflictError for one that a newer program made."""
    have = current(engine)
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if have is not None and have not in known:
        raise ConflictError(
            "the database is of a newer Tunesmith", why=f"its schema is {have}, which this version does not know",
            mend="use the newer version, or another database",
        )  # fmt: skip
    if have == newest() and to == "head":
        return
    with engine.connect() as connection:
        connection.execution_options(writes=True)
        with connection.begin():
            if connection.dialect.name == "postgresql":  # SQLite's write lock is held already
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            command.upgrade(config(connection), to)
