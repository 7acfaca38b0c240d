"""An index of failed tasks, so that a job's errors are found among its 100,000 tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the index."""
    failed = sa.text("state = 'FAILED'")
    op.create_index("tasks_failed", "tasks", ["stage", "idx"], sqlite_where=failed, postgresql_where=failed)
