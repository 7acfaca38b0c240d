"""Live control: pauses, the person who has paused, cancelled or skipped; failing and blocked stages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, and fill them for the jobs that are there."""
    for table in ("jobs", "stages", "tasks"):
        op.add_column(table, sa.Column("by_whom", sa.Text))
        op.add_column(table, sa.Column("paused_at", sa.Double))
    for name in ("failing", "blocked", "spawn_hand", "added", "held", "withdrawn"):
        op.add_column("stages", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE stages SET withdrawn = cancelled WHERE cancelled > 0")
    op.execute(
        "UPDATE stages SET failing = 1 WHERE on_error = 'fail_job' AND state IN ('RUNNING', 'FAILED')"
        " AND (failed > 0 OR spawn = 'FAILED')"
    )
    waiting = sa.text("state = 'PENDING' AND not_before IS NOT NULL AND by_whom IS NULL")
    op.drop_index("tasks_waiting", "tasks")
    op.create_index("tasks_waiting", "tasks", ["not_before"], sqlite_where=waiting, postgresql_where=waiting)
