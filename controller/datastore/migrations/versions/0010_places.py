"""Shares of jobs: each stage has a priority and a place among those that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_LINE = ["claim_rank", "served", "key"]


def upgrade() -> None:
    """Add the columns, and order the indexes of what may be claimed by them."""
    for name in ("priority", "spawn_priority", "claim_rank"):
        op.add_column("stages", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("stages", sa.Column("served", sa.BigInteger, nullable=False, server_default="0"))
    ready = sa.text("ready > 0")
    for name, columns in (("stages_ready", _LINE), ("stages_ready_by_queue", ["claim_queue", *_LINE])):
        op.drop_index(name, "stages")
        op.create_index(name, "stages", columns, sqlite_where=ready, postgresql_where=ready)
