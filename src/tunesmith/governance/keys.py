"""API keys: `ts-`, an id, a secret. Shown once; of the secret only its SHA-256 is stored.

A secret has 256 random bits, so a slow hash would protect nothing more. Scopes do not include each other: `read` looks
at files, jobs and models, `infer` asks models, `train` uploads, creates and changes, `admin` rules over keys,
permissions and audit log.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select, update

from ..core import ids
from ..core.errors import ConflictError, MissingError, NotAllowedError, UsageError, nearest
from ..store.database import Also, Store
from ..store.tables import api_keys, projects
from . import audit

SCOPES = ("read", "infer", "train", "admin")
DEFAULT_PROJECT = "proj_default"
DEFAULT_ORGANIZATION = "personal"
_KEY = re.compile(r"ts-([A-Za-z0-9]{8})([A-Za-z0-9]{43})")
_USED_EVERY = 60.0
"""Seconds: how exact `last_used_at` is, so that a read costs no write."""


class BadKeyError(NotAllowedError):
    """No such key, or it is revoked or expired. The message tells no one which."""


@dataclass(frozen=True)
class Identity:
    """Who asks."""

    key_id: str
    project_id: str
    organization: str
    """The slug in model names."""
    scopes: frozenset[str]
    max_running: int | None = None
    """Jobs of the key that may train at a time; None for no limit."""
    max_queued: int | None = None
    """Jobs of the key that may wait; None for no limit."""

    def may(self, scope: str) -> bool:
        """Whether the key has the scope."""
        return scope in self.scopes


@dataclass(frozen=True)
class Key:
    """What is kept of a key. Times are seconds since 1970."""

    id: str
    project_id: str
    name: str
    last4: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    max_running: int | None
    max_queued: int | None

    @property
    def shown(self) -> str:
        """The key as far as it may be shown."""
        return f"ts-{self.id}...{self.last4}"


class Keys:
    """The keys of a store."""

    def __init__(self, store: Store):
        self._store = store

    def create(
        self, *, name: str, scopes: Iterable[str] = SCOPES, project_id: str = DEFAULT_PROJECT,
        expires_at: float | None = None, max_running: int | None = None, max_queued: int | None = None,
        actor: str = "local", also: Also[tuple[str, Key]] | None = None,
    ) -> tuple[str, Key]:  # fmt: skip
        """The key itself, which is shown this once, and what is kept of it. UsageError, MissingError."""
        wanted = sorted(set(scopes), key=lambda scope: SCOPES.index(scope) if scope in SCOPES else -1)
        for scope in wanted:
            if scope not in SCOPES:
                raise UsageError(f"unknown scope '{scope}'", mend=nearest(scope, SCOPES))
        if not wanted:
            raise UsageError("a key needs a scope", mend=", ".join(SCOPES))
        id, secret = ids.base62(8), ids.base62(43)
        with self._store.writing() as connection:
            _require_project(connection, project_id)
            now = self._store.now(connection)
            connection.execute(
                insert(api_keys).values(
                    id=id, project_id=project_id, name=name, secret_sha256=_hash(secret), last4=secret[-4:],
                    scopes=",".join(wanted), created_at=now, expires_at=expires_at, max_running=max_running,
                    max_queued=max_queued,
                )
            )  # fmt: skip
            audit.record(
                self._store, connection, actor=actor, project_id=project_id, action="key.created", target=id,
                detail={"name": name, "scopes": wanted, "expires_at": expires_at},
            )  # fmt: skip
            made = f"ts-{id}{secret}", _key(connection.execute(select(api_keys).where(api_keys.c.id == id)).one())
            if also:
                also(connection, made)
        return made

    def first(self, organization: str = DEFAULT_ORGANIZATION) -> str | None:
        """A key with every scope in the default project where no key was ever made; None where one was."""
        self.add_project(DEFAULT_PROJECT, "default", organization, exist_ok=True)
        with self._store.reading() as connection:
            if connection.execute(select(api_keys.c.id).limit(1)).first():
                return None
        return self.create(name="first", actor="system")[0]

    def add_project(self, id: str, name: str, organization: str, *, exist_ok: bool = False) -> None:
        """A project: what keys, files, jobs and models belong to. ConflictError where the id is taken."""
        with self._store.writing() as connection:
            if connection.execute(select(projects.c.id).where(projects.c.id == id)).first():
                if exist_ok:
                    return
                raise ConflictError(f"there is a project '{id}' already")
            now = self._store.now(connection)
            connection.execute(insert(projects).values(id=id, name=name, organization=organization, created_at=now))
            audit.record(
                self._store, connection, actor="local", project_id=id, action="project.created", target=id,
                detail={"name": name, "organization": organization},
            )  # fmt: skip

    def authenticate(self, key: str) -> Identity:
        """Whose key this is. BadKeyError. A revocation holds from the next call on."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise BadKeyError("not a valid API key")
        id, secret = match.groups()
        query = (
            select(api_keys, projects.c.organization)
            .join(projects, projects.c.id == api_keys.c.project_id)
            .where(api_keys.c.id == id)
        )
        with self._store.reading() as connection:
            row, now = connection.execute(query).first(), self._store.now(connection)
        same = hmac.compare_digest(row.secret_sha256 if row else "0" * 64, _hash(secret))
        if row is None or not same or row.revoked_at is not None or (row.expires_at or now + 1) <= now:
            raise BadKeyError("not a valid API key")
        if row.last_used_at is None or row.last_used_at < now - _USED_EVERY:
            with self._store.writing() as connection:
                connection.execute(update(api_keys).where(api_keys.c.id == id).values(last_used_at=now))
        return Identity(
            id, row.project_id, row.organization, frozenset(row.scopes.split(",")), row.max_running, row.max_queued
        )

    def list(self, project_id: str | None = None) -> list[Key]:
        """All keys, newest first, or those of a project."""
        query = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
        if project_id:
            query = query.where(api_keys.c.project_id == project_id)
        with self._store.reading() as connection:
            return [_key(row) for row in connection.execute(query)]

    def revoke(self, id: str, *, actor: str = "local", project_id: str | None = None) -> Key:
        """From now on the key opens nothing. MissingError, also for a key of another project than `project_id`."""
        with self._store.writing() as connection:
            found = connection.execute(select(api_keys).where(api_keys.c.id == id)).first()
            if found is None or project_id not in (None, found.project_id):
                raise MissingError(f"there is no key '{id}'", mend="tunesmith keys list")
            if found.revoked_at is None:
                now = self._store.now(connection)
                connection.execute(update(api_keys).where(api_keys.c.id == id).values(revoked_at=now))
                audit.record(
                    self._store, connection, actor=actor, project_id=found.project_id, action="key.revoked", target=id,
                    detail={},
                )  # fmt: skip
            return _key(connection.execute(select(api_keys).where(api_keys.c.id == id)).one())


def _require_project(connection: Connection, id: str) -> None:
    if connection.execute(select(projects.c.id).where(projects.c.id == id)).first() is None:
        raise MissingError(f"there is no project '{id}'", mend="tunesmith keys create --project ID makes one")


def _key(row: Row[tuple[object, ...]]) -> Key:
    kept = {name: getattr(row, name) for name in Key.__dataclass_fields__}
    return Key(**kept | {"scopes": tuple(row.scopes.split(","))})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
