"""What alembic runs: the migrations on the connection that `schema` hands over."""

from __future__ import annotations

from alembic import context

from tunesmith.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True,
    transaction_per_migration=False,
)  # fmt: skip
with context.begin_transaction():
    context.run_migrations()
