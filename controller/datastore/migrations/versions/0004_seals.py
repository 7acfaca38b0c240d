"""A seal for each job, which goes at its end; and what an earlier release has left of secrets is erased.

Secrets of single tasks were sealed with the volume's key for good: those of ended jobs are blanked here. Jobs that are
open keep theirs until they are deleted, for the store does not know the key with which they could be sealed anew.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_AT_ONCE = 1_000
#: A value sealed with the volume's key.
_SEALED = re.compile(r"gAAAA[A-Za-z0-9_-]{60,}={0,2}")


def upgrade() -> None:
    """Add the columns; erase what stands there of secrets, and what they could be guessed by."""
    op.add_column("job_inputs", sa.Column("seal", sa.Text))
    op.add_column("job_inputs", sa.Column("seal_number", sa.Integer, nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("seal_number", sa.Integer))
    # Digests of requests that anybody could compute, and so try secrets against.
    op.execute("UPDATE job_inputs SET request_hash = NULL")
    connection = op.get_bind()
    _number_sealed_tasks(connection)
    _strip_definitions(connection)


def _number_sealed_tasks(connection: sa.Connection) -> None:
    write = sa.text("UPDATE tasks SET input = :input, seal_number = 0 WHERE key = :key")
    for rows in _sealed_tasks(connection):
        changes = []
        for key, words, state in rows:
            values = json.loads(words)
            sealed = {name for name, value in values.items() if isinstance(value, str) and _SEALED.fullmatch(value)}
            if sealed and state in ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED"):
                words = json.dumps({name: "" if name in sealed else value for name, value in values.items()})
            if sealed:
                changes.append({"key": key, "input": words})
        if changes:
            connection.execute(write, changes)


def _sealed_tasks(connection: sa.Connection) -> Iterator[list[Any]]:
    """Yield pages of tasks that may hold something sealed, with the states of their jobs."""
    page = sa.text(
        "SELECT tasks.key, tasks.input, jobs.state FROM tasks JOIN stages ON stages.key = tasks.stage"
        " JOIN jobs ON jobs.key = stages.job WHERE tasks.key > :after AND tasks.input LIKE '%gAAAA%'"
        " ORDER BY tasks.key LIMIT :count"
    )
    after = -1
    while rows := list(connection.execute(page, {"after": after, "count": _AT_ONCE})):
        yield rows
        after = rows[-1][0]


def _strip_definitions(connection: sa.Connection) -> None:
    """Take the values of tasks out of the definitions of composed jobs, and the digest of them out of their names."""
    names = [row[0] for row in connection.execute(sa.text("SELECT revision FROM definitions ORDER BY revision"))]
    for name in names:
        found = connection.execute(sa.text("SELECT document FROM definitions WHERE revision = :name"), {"name": name})
        document = json.loads(found.scalar_one())
        tasks = [
            task
            for job in document["jobs"].values()
            for stage in job["stages"]
            for task in stage.get("tasks", ())
            if task.get("input")
        ]
        if not tasks:
            continue
        for task in tasks:
            task["input"] = {}
        document["revision"] = uuid.uuid4().hex[:16]
        change = {"new": document["revision"], "old": name, "document": json.dumps(document)}
        connection.execute(
            sa.text("UPDATE definitions SET revision = :new, document = :document WHERE revision = :old"), change
        )
        connection.execute(sa.text("UPDATE job_inputs SET revision = :new WHERE revision = :old"), change)
