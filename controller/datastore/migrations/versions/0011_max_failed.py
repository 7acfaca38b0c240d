"""How many tasks of a stage may fail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column."""
    op.add_column("stages", sa.Column("max_failed", sa.Text))
