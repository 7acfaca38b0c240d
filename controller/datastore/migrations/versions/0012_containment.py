"""A place for how a worker finds the processes that tasks leave."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column."""
    op.add_column("workers", sa.Column("containment", sa.Text))
