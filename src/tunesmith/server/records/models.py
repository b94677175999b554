"""Which models a project may ask: bases, their aliases, and what its jobs made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, insert, or_, select

from ...core import ids
from ...core.errors import ConflictError, MissingError
from ...core.files import discard
from ...governance import audit
from ...governance.keys import Identity
from ...jobs.states import FINAL
from ...models.refs import bundled_names
from ...store.database import Store
from ...store.tables import checkpoint_permissions, jobs, models, projects
from ..settings import Settings


@dataclass(frozen=True)
class Served:
    """A model that can be asked."""

    name: str
    """As it was asked for."""
    base: str
    """Of the base: a bundled name, a local folder or a hub id."""
    created_at: float = 0.0
    run: Path | None = None
    """The run's folder; None for a base."""
    weights: Path | None = None
    """The adapter's or the model's folder; None for a base."""
    job_id: str | None = None
    project_id: str | None = None
    verdict: dict[str, Any] | None = None


@dataclass(frozen=True)
class Grant:
    """A project's right to a checkpoint."""

    number: int
    id: str
    model: str
    project_id: str
    created_at: float


class NoModelError(MissingError):
    """There is no such model, or not for this project."""


class ModelInUseError(ConflictError):
    """A job that has not ended starts from the model."""


class Models:
    """The models of a store and of the settings."""

    def __init__(self, store: Store, settings: Settings):
        self._store, self._settings = store, settings

    def bases(self) -> dict[str, str]:
        """By name, what can be tuned and asked: bundled bases, those of the settings, and aliases of either."""
        home = self._settings.home
        named = {name: _placed(name, home) for name in (*bundled_names(), *self._settings.bases)}
        return named | {alias: _placed(base, home) for alias, base in self._settings.aliases.items()}

    def visible(self, project_id: str) -> list[Served]:
        """All that the project may ask, tuned ones newest first."""
        with self._store.reading() as connection:
            rows = connection.execute(
                select(models).where(_visible(project_id)).order_by(models.c.created_at.desc(), models.c.name)
            ).all()
        return [Served(name, base) for name, base in self.bases().items()] + [self._tuned(row) for row in rows]

    def resolve(self, project_id: str, name: str) -> Served:
        """The model of a name, for a project. NoModelError."""
        if base := self.bases().get(name):
            return Served(name, base)
        with self._store.reading() as connection:
            row = connection.execute(select(models).where(models.c.name == name, _visible(project_id))).first()
        if row is None:
            raise NoModelError(f"there is no model '{name}'")
        return self._tuned(row)

    def delete(self, who: Identity, name: str) -> None:
        """Remove a tuned model of the project, then its weights. NoModelError, ModelInUseError.

        The job and its run's folder stay: reports and proofs remain readable.
        """
        with self._store.writing() as connection:
            mine = (models.c.name == name) & (models.c.project_id == who.project_id)
            row = connection.execute(select(models).where(mine)).first()
            if row is None:
                raise NoModelError(f"there is no model '{name}'")
            user = select(jobs.c.id).where(jobs.c.base == name, jobs.c.status.not_in(sorted(FINAL)))
            if (job_id := connection.execute(user).scalar()) is not None:
                raise ModelInUseError(f"job {job_id} starts from model '{name}'")
            shared = exists().where(models.c.run == row.run, models.c.weights == row.weights)
            connection.execute(delete(models).where(mine))
            kept = connection.execute(select(shared)).scalar_one()
            audit.record(
                self._store, connection, actor=f"key:{who.key_id}", project_id=who.project_id, action="model.deleted",
                target=name, detail={"job": row.job_id},
            )  # fmt: skip
        if not kept:
            discard(self._store.folder / row.weights)

    def grants(
        self, project_id: str, name: str, *, after: str | None, limit: int, newest_first: bool, of: str | None
    ) -> tuple[list[Grant], bool]:
        """Which other projects may ask a model of this one. NoModelError."""
        self._require_own(project_id, name)
        table = checkpoint_permissions
        query = select(table).where(table.c.model == name)
        with self._store.reading() as connection:
            if of is not None:
                query = query.where(table.c.project_id == of)
            if after is not None:
                place = connection.execute(select(table.c.number).where(table.c.id == after)).scalar()
                if place is None:
                    return [], False
                query = query.where(table.c.number < place if newest_first else table.c.number > place)
            query = query.order_by(table.c.number.desc() if newest_first else table.c.number).limit(limit + 1)
            rows = connection.execute(query).all()
        return [Grant(*row) for row in rows[:limit]], len(rows) > limit

    def grant(self, who: Identity, name: str, project_ids: list[str]) -> list[Grant]:
        """Let other projects ask a model. NoModelError; MissingError for a project that is not there.

        All of them or none. A right that is there already is given back as it is.
        """
        self._require_own(who.project_id, name)
        table = checkpoint_permissions
        made: list[Grant] = []
        with self._store.writing() as connection:
            for other in dict.fromkeys(project_ids):
                if connection.execute(select(projects.c.id).where(projects.c.id == other)).first() is None:
                    raise MissingError(f"there is no project '{other}'")
                same = (table.c.model == name) & (table.c.project_id == other)
                if connection.execute(select(table.c.id).where(same)).first() is None:
                    id, now = ids.record_id("cp_"), self._store.now(connection)
                    connection.execute(insert(table).values(id=id, model=name, project_id=other, created_at=now))
                    self._note(connection, who, "permission.created", name, other)
                made.append(Grant(*connection.execute(select(table).where(same)).one()))
        return made

    def revoke(self, who: Identity, name: str, permission_id: str) -> None:
        """Take a right back. NoModelError, MissingError."""
        self._require_own(who.project_id, name)
        table = checkpoint_permissions
        with self._store.writing() as connection:
            same = (table.c.id == permission_id) & (table.c.model == name)
            row = connection.execute(select(table).where(same)).first()
            if row is None:
                raise MissingError(f"there is no permission '{permission_id}'")
            connection.execute(delete(table).where(same))
            self._note(connection, who, "permission.deleted", name, row.project_id)

    def _require_own(self, project_id: str, name: str) -> None:
        with self._store.reading() as connection:
            mine = (models.c.name == name) & (models.c.project_id == project_id)
            if connection.execute(select(models.c.name).where(mine)).first() is None:
                raise NoModelError(f"there is no model '{name}'")

    def _tuned(self, row: Any) -> Served:
        folder = self._store.folder
        return Served(
            row.name, row.base, row.created_at, folder / row.run, folder / row.weights, row.job_id, row.project_id,
            row.verdict,
        )  # fmt: skip

    def _note(self, connection: Any, who: Identity, action: str, name: str, project_id: str) -> None:
        audit.record(
            self._store, connection, actor=f"key:{who.key_id}", project_id=who.project_id, action=action, target=name,
            detail={"project": project_id},
        )  # fmt: skip


def _placed(base: str, home: Path) -> str:
    """A base as the worker will find it too: a path of the settings is relative to their folder."""
    return str((home / Path(base).expanduser()).absolute()) if base.startswith((".", "~")) else base


def _visible(project_id: str) -> ColumnElement[bool]:
    granted = exists().where(
        checkpoint_permissions.c.model == models.c.name, checkpoint_permissions.c.project_id == project_id
    )
    return or_(models.c.project_id == project_id, granted)
