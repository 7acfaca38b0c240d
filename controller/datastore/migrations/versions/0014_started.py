"""What has started, beside what a worker holds: counters of stages, and claims that ended without a start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the columns and the index. Until now all that a worker held counted as started."""
    for table, column in (
        ("stages", "started"), ("stages", "spawn_started"), ("tasks", "unstarted"), ("attempts", "unstarted"),
    ):  # fmt: skip
        op.add_column(table, sa.Column(column, sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE stages SET started = running WHERE running > 0")
    op.execute("UPDATE stages SET spawn_started = 1 WHERE spawn = 'RUNNING'")
    shown = sa.text("state = 'RUNNING' AND started_at IS NOT NULL")
    op.create_index("tasks_started", "tasks", ["worker"], sqlite_where=shown, postgresql_where=shown)
