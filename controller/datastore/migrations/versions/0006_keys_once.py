"""The last key that a job or stage has got, so that SQLite too gives none a second time after a deletion."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Remember the highest key; PostgreSQL has had a sequence from the start."""
    if op.get_bind().dialect.name == "sqlite":
        # SQLite's own table of counters, which is there since `workers` counts with it; it outlives dropped tables.
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'job_keys'")
        op.execute("INSERT INTO sqlite_sequence (name, seq) SELECT 'job_keys', coalesce(max(key), 0) FROM stages")
