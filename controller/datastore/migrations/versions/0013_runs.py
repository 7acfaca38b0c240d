"""Runs of a stage: a retry of what comes before it may let its spawn task run again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("stages", sa.Column("run", sa.Integer, nullable=False, server_default="1"))
    op.add_column("stages", sa.Column("shift", sa.Integer, nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("run", sa.Integer))
