"""An index of the tasks whose last attempts have lost their claim and may still be there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the index."""
    dying = sa.text("state <> 'RUNNING' AND lease_until IS NOT NULL")
    op.create_index("tasks_dying", "tasks", ["lease_until"], sqlite_where=dying, postgresql_where=dying)
