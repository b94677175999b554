"""Every table, in one MetaData. `migrations/` builds the same schema step by step; a test compares the two.

Times are seconds since 1970 in UTC, by the database's clock. JSON columns hold plain JSON. Texts of people are never
part of a name on disk: files lie under names that `blobs` makes.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names of constraints, the same on every database, so that a migration can name what it changes."""

metadata = MetaData(naming_convention=NAMING)

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""A number that the database gives, counting up: SQLite does so for its own INTEGER alone."""
_JSON = JSON(none_as_null=True)

STATUSES = (
    "validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"
)  # fmt: skip
"""What a job can be; `jobs/states.py` says how it gets from one to another."""


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


projects = Table(
    "projects", metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("organization", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)  # fmt: skip

api_keys = Table(
    "api_keys", metadata,
    Column("id", String(16), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("last4", String(4), nullable=False),
    Column("scopes", String(100), nullable=False),
    Column("max_running", Integer),
    Column("max_queued", Integer),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
)  # fmt: skip

files = Table(
    "files", metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("key_id", ForeignKey("api_keys.id")),
    Column("filename", Text, nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("status", String(16), nullable=False),
    Column("status_details", Text),
    Column("blob", String(80), nullable=False),
    Column("sha256", String(64), nullable=False),
    Index("ix_files_project_id_number", "project_id", "number"),
    _one_of("status", ("uploaded", "processed", "error")),
    sqlite_autoincrement=True,
)  # fmt: skip

uploads = Table(
    "uploads", metadata,
    Column("id", String(40), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("key_id", ForeignKey("api_keys.id")),
    Column("filename", Text, nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("file_expires_seconds", Integer),
    Column("status", String(16), nullable=False),
    Column("file_id", ForeignKey("files.id", ondelete="SET NULL")),
    _one_of("status", ("pending", "completed", "cancelled", "expired")),
)  # fmt: skip

upload_parts = Table(
    "upload_parts", metadata,
    Column("id", String(40), primary_key=True),
    Column("upload_id", ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("blob", String(80), nullable=False),
    Column("sha256", String(64), nullable=False),
)  # fmt: skip

jobs = Table(
    "jobs", metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("organization", String(64), nullable=False),
    # what was asked for
    Column("model", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("training_file", String(40), nullable=False),
    Column("validation_file", String(40)),
    Column("suffix", String(64)),
    Column("seed", BigInteger, nullable=False),
    Column("method", _JSON, nullable=False),
    Column("integrations", _JSON),
    Column("metadata", _JSON),
    Column("priority", Integer, nullable=False),
    # where it stands
    Column("status", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("queued_at", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("not_before", Double, nullable=False),
    Column("hyperparameters", _JSON),
    Column("step", Integer, nullable=False),
    Column("total_steps", Integer),
    Column("estimated_finish", Double),
    Column("trained_tokens", BigInteger),
    Column("fine_tuned_model", Text),
    Column("error", _JSON),
    Column("result_files", _JSON),
    Column("verdict", _JSON),
    # whose it is
    Column("fence", BigInteger, nullable=False),
    Column("worker_id", String(40)),
    Column("lease_until", Double),
    Column("failures", Integer, nullable=False),
    Index("ix_jobs_waiting", "status", "key_id", "priority", "number", "not_before"),
    Index("ix_jobs_status_number", "status", "number"),
    Index("ix_jobs_project_id_number", "project_id", "number"),
    Index("ix_jobs_project_id_status_number", "project_id", "status", "number"),
    Index("ix_jobs_lease_until", "lease_until"),
    _one_of("status", STATUSES),
    CheckConstraint("(lease_until IS NULL) = (worker_id IS NULL)", name="lease"),
    CheckConstraint("(finished_at IS NULL) = (status NOT IN ('succeeded', 'failed', 'cancelled'))", name="finished"),
    sqlite_autoincrement=True,
)  # fmt: skip

job_metadata = Table(
    "job_metadata", metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), nullable=False),
    Index("ix_job_metadata_key_value", "key", "value", "job_id"),
)  # fmt: skip

job_events = Table(
    "job_events", metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("level", String(5), nullable=False),
    Column("type", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", _JSON),
    Column("step", Integer),
    Index("ix_job_events_job_id_number", "job_id", "number"),
    UniqueConstraint("job_id", "step"),
    _one_of("level", ("info", "warn", "error")),
    _one_of("type", ("message", "metrics")),
    sqlite_autoincrement=True,
)  # fmt: skip
"""`step` is there in metrics alone, and once for each job: a step that is trained again after a fault is told once."""

models = Table(
    "models", metadata,
    Column("name", String(300), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("kind", String(10), nullable=False),
    Column("step", Integer, nullable=False),
    Column("base", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("weights", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("verdict", _JSON),
    _one_of("kind", ("final", "checkpoint")),
)  # fmt: skip
"""`run` is the run's folder and `weights` the adapter's or model's, both below the store's folder."""

job_checkpoints = Table(
    "job_checkpoints", metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("step_number", Integer, nullable=False),
    Column("model", String(300), nullable=False),
    Column("metrics", _JSON, nullable=False),
    Index("ix_job_checkpoints_job_id_number", "job_id", "number"),
    UniqueConstraint("job_id", "step_number"),
    sqlite_autoincrement=True,
)  # fmt: skip

checkpoint_permissions = Table(
    "checkpoint_permissions", metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("model", ForeignKey("models.name", ondelete="CASCADE"), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("model", "project_id"),
    sqlite_autoincrement=True,
)  # fmt: skip

workers = Table(
    "workers", metadata,
    Column("id", String(40), primary_key=True),
    Column("host", Text, nullable=False),
    Column("boot", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)  # fmt: skip

turns = Table(
    "turns", metadata,
    Column("key_id", ForeignKey("api_keys.id"), primary_key=True),
    Column("served_at", Double, nullable=False),
)  # fmt: skip
"""When a job of a key was last begun: who waited longest comes next."""

locks = Table("locks", metadata, Column("name", String(20), primary_key=True))
"""Rows to hold while one writes what only one may: `claim`, `audit`. SQLite has one writer anyway."""

identity = Table("identity", metadata, Column("id", String(32), primary_key=True))
"""One row: a random id of this database. The folder that its blobs lie in is marked with it (see `orphans`)."""

audit = Table(
    "audit", metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", String(60), nullable=False),
    Column("project_id", String(40)),
    Column("action", String(60), nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_audit_project_id_number", "project_id", "number"),
)  # fmt: skip
"""Append-only. `detail` is canonical JSON, kept as the text that was hashed."""

audit_head = Table(
    "audit_head", metadata,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)  # fmt: skip
"""One row: the last entry's number and hash, by which entries that were cut off at the end are missed."""

idempotency = Table(
    "idempotency", metadata,
    Column("project_id", String(40), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("route", Text, nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("status", Integer),
    Column("answer", _JSON),
)  # fmt: skip
"""`status` is null while the first request with the key is being answered."""

answers = Table(
    "answers", metadata,
    Column("request_id", String(80), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("model", String(300), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("asked", _JSON, nullable=False),
    Column("answered", _JSON, nullable=False),
    Column("previous", String(80)),
)  # fmt: skip
"""What was asked and answered, where it is kept (`store`, responses): `kind` is chat, completion or response."""

feedback = Table(
    "feedback", metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("request_id", String(80), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("good", Boolean),
    Column("corrected", Text),
    Column("note", Text),
    sqlite_autoincrement=True,
)  # fmt: skip
