"""A place for what workers tell of when they spoke: a sign of life may be read long after it was given."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column."""
    op.add_column("workers", sa.Column("as_of", sa.Double))
