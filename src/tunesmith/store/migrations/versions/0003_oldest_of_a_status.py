"""The oldest job of a status is found at once, however many wait: which one is validated next."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The index."""
    op.create_index("ix_jobs_status_number", "jobs", ["status", "number"], unique=False)
