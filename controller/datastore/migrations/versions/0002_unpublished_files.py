"""Attempts whose files are still to be published: after the commit that counts them, no longer before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table; what has been counted so far has been published."""
    op.create_table(
        "unpublished",
        sa.Column("task", _KEY, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, nullable=False),
    )
