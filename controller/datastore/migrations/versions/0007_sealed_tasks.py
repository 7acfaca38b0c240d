"""An index of the open tasks that have secrets of their own, by the seal that those were sealed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the index."""
    sealed = sa.text("state IN ('PENDING', 'QUEUED') AND seal_number IS NOT NULL")
    op.create_index(
        "tasks_sealed", "tasks", ["stage", "seal_number", "idx"], sqlite_where=sealed, postgresql_where=sealed
    )
