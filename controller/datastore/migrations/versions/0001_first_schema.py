"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_STATES = "IN ('PENDING', 'QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED')"


def upgrade() -> None:
    """Make every table."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("job_keys", data_type=sa.BigInteger)))
        op.execute(sa.schema.CreateSequence(sa.Sequence("history_numbers", data_type=sa.BigInteger)))
    _make_jobs()
    _make_stages()
    _make_tasks()
    _make_history()
    _make_the_rest()


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("key", _KEY, primary_key=True, autoincrement=False),
        sa.Column("job_id", _ID, nullable=False, unique=True),
        _text("type"),
        _text("state"),
        _text("error", null=True),
        _integer("stage_count"),
        _integer("etag"),
        _time("created_at", null=False),
        _time("started_at"),
        _time("ended_at"),
        sa.CheckConstraint(f"state {_STATES}"),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "key"])
    op.create_index("jobs_by_type", "jobs", ["type", "key"])
    op.create_table(
        "job_inputs",
        sa.Column("key", _KEY, primary_key=True, autoincrement=False),
        _text("revision"),
        _text("input"),
        _text("secret"),
        _text("sealed", null=True),
        _text("words"),
        sa.Column("idempotency_key", sa.Text, unique=True),
        _text("request_hash", null=True),
        _text("request_id", null=True),
    )


def _make_stages() -> None:
    op.create_table(
        "stages",
        sa.Column("key", _KEY, primary_key=True, autoincrement=False),
        sa.Column("job", sa.BigInteger, nullable=False),
        _integer("number"),
        _integer("place"),
        *(_text(name) for name in ("name", "source", "on_error", "task_class")),
        _text("spawn_class", null=True),
        _text("queue"),
        _text("spawn_queue", null=True),
        _integer("max_parallel", null=True),
        _integer("fail_fast"),
        _text("state"),
        *map(_integer, ("pending", "queued", "running", "completed", "failed", "cancelled", "skipped")),
        _text("spawn", null=True),
        _integer("expected", null=True),
        _text("error", null=True),
        _integer("ready"),
        _text("claim_queue"),
        _integer("unfilled"),
        _text("items_path", null=True),
        _integer("items_created"),
        sa.Column("items_offset", sa.BigInteger, nullable=False),
        _integer("etag"),
        _time("started_at"),
        _time("ended_at"),
        sa.CheckConstraint(f"state {_STATES}"),
        sa.CheckConstraint(f"spawn IS NULL OR spawn {_STATES}"),
        sa.CheckConstraint("pending >= 0 AND queued >= 0 AND running >= 0 AND failed >= 0 AND cancelled >= 0"),
    )
    _partial_index("stages_ready", "stages", ["key"], "ready > 0")
    _partial_index("stages_ready_by_queue", "stages", ["claim_queue", "key"], "ready > 0")
    _partial_index("stages_unfilled", "stages", ["key"], "unfilled > 0")
    _partial_index("stages_open", "stages", ["key"], "state IN ('PENDING', 'RUNNING')")


def _make_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("key", _KEY, primary_key=True, autoincrement=False),
        sa.Column("task_id", _ID, nullable=False, unique=True),
        sa.Column("stage", sa.BigInteger, nullable=False),
        _integer("idx"),
        _text("state"),
        *map(_integer, ("attempt", "failures", "losses")),
        _integer("worker", null=True),
        *map(_time, ("lease_until", "not_before", "started_at", "ended_at")),
        _integer("exit_code", null=True),
        _integer("signal", null=True),
        _integer("etag"),
        _text("task_class"),
        _text("queue"),
        *(_text(name, null=True) for name in ("input", "error", "result")),
        sa.CheckConstraint(f"state {_STATES}"),
    )
    _partial_index("tasks_queued", "tasks", ["stage", "idx"], "state = 'QUEUED'")
    _partial_index("tasks_running", "tasks", ["lease_until"], "state = 'RUNNING'")
    _partial_index("tasks_waiting", "tasks", ["not_before"], "state = 'PENDING' AND not_before IS NOT NULL")


def _make_history() -> None:
    op.create_table(
        "attempts",
        sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("task", sa.BigInteger, nullable=False),
        _integer("attempt"),
        _integer("kept"),
        _text("outcome"),
        *(_integer(name, null=True) for name in ("worker", "exit_code", "signal")),
        _text("error", null=True),
        _time("started_at"),
        _time("ended_at", null=False),
        sqlite_with_rowid=False,
    )
    _partial_index("attempts_by_task", "attempts", ["task", "attempt"], "kept = 1")
    op.create_table(
        "events",
        sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        _time("at", null=False),
        _text("kind"),
        _integer("stage", null=True),
        _text("detail", null=True),
        sqlite_with_rowid=False,
    )


def _make_the_rest() -> None:
    op.create_table(
        "definitions",
        sa.Column("revision", sa.Text, primary_key=True),
        _text("document"),
        _time("created_at", null=False),
    )
    op.create_table(
        "workers",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("worker_id", sa.Text, nullable=False, unique=True),
        *(_text(name, null=True) for name in ("name", "host", "version", "slots")),
        _integer("draining", null=True),
        _integer("running", null=True),
        _time("last_seen_at"),
        _text("demand", null=True),
        _time("told_at"),
        _integer("gone"),
        sqlite_autoincrement=True,
    )
    _partial_index("workers_present", "workers", ["key"], "gone = 0")


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _integer(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=null)


def _time(name: str, *, null: bool = True) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
