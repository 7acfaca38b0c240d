"""When a job last changed; lists of jobs are sorted by the time of creation, and cut out by times."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the column, and indexes for the order of lists."""
    op.add_column("jobs", sa.Column("updated_at", sa.Double, nullable=False, server_default="0"))
    op.execute("UPDATE jobs SET updated_at = coalesce(ended_at, started_at, created_at)")
    op.create_index("jobs_by_time", "jobs", ["created_at", "key"])
    op.create_index("jobs_by_update", "jobs", ["updated_at"])
    op.drop_index("jobs_by_state", "jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "created_at", "key"])
    op.drop_index("jobs_by_type", "jobs")
    op.create_index("jobs_by_type", "jobs", ["type", "state", "created_at", "key"])
