"""The tables as they are now. `migrations/` turns older databases into this schema; a test compares the two.

The layout and its reasons:

* A job with n stages takes n consecutive keys: the first is the job's key, stage i has key job + i. A task's key is its
  stage's key and its index in one integer (`task_key`). So the primary key of `tasks` is the rule "one task per stage
  and index", keeps the tasks of a job side by side, and no second index is needed to list or delete them.
* Rows that change with every batch (`jobs`, `stages`) have no large values; those are in `job_inputs`.
* Every index costs on each write of the hot path, so those on `tasks` are partial and hold only what is open. Few
  tasks run (as many as all workers have slots): one index over them serves leases, workers and queues.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
    text,
)

from echelon.controller.core.states import State

#: Bits of a task's key that hold its index.
INDEX_BITS = 28

metadata = MetaData()

_KEY = BigInteger().with_variant(Integer, "sqlite")
#: Ids are searched by prefix: byte order, independent of the database's language.
_ID = Text().with_variant(Text(collation="C"), "postgresql")


def task_key(stage_key: int, index: int) -> int:
    """Return the key of the task at an index of a stage; the spawn task (index -1) comes first."""
    return (stage_key << INDEX_BITS) + index + 1


def _allow_states(column: str, *, optional: bool = False) -> CheckConstraint:
    words = ", ".join(f"'{state}'" for state in State)
    rule = f"{column} IN ({words})"
    return CheckConstraint(f"{column} IS NULL OR {rule}" if optional else rule)


class PartialIndex(Index):
    """An index of some rows of a table."""

    inherit_cache = True

    def __init__(self, name: str, rows: str, *columns: Column[Any]) -> None:
        super().__init__(name, *columns, sqlite_where=text(rows), postgresql_where=text(rows))


#: Keys of jobs and stages (PostgreSQL; SQLite counts in a row of this name in its own table of counters).
job_keys = Sequence("job_keys", metadata=metadata, data_type=BigInteger)
#: Numbers of events and ended attempts (PostgreSQL).
history_numbers = Sequence("history_numbers", metadata=metadata, data_type=BigInteger)

jobs = Table(
    "jobs",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=False),
    Column("job_id", _ID, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("error", Text),
    #: How many keys after its own are those of its stages.
    Column("stage_count", Integer, nullable=False),
    Column("etag", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    #: The person who has paused (while it is open), cancelled or skipped it.
    Column("by_whom", Text),
    Column("paused_at", Double),
    #: Whenever its etag changes.
    Column("updated_at", Double, nullable=False, server_default="0"),
    _allow_states("state"),
    # Lists are sorted by the time of creation.
    Index("jobs_by_time", "created_at", "key"),
    Index("jobs_by_state", "state", "created_at", "key"),
    Index("jobs_by_type", "type", "state", "created_at", "key"),
    Index("jobs_by_update", "updated_at"),
)

job_inputs = Table(
    "job_inputs",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=False),
    Column("revision", Text, nullable=False),
    #: JSON object without secrets.
    Column("input", Text, nullable=False),
    #: JSON array: the names of the secrets.
    Column("secret", Text, nullable=False),
    #: JSON object of sealed values; NULL when erased.
    Column("sealed", Text),
    #: The key that secrets of single tasks are sealed with, sealed itself; NULL: the job has none, or it is erased.
    Column("seal", Text),
    #: Changes with every seal, and when one is erased.
    Column("seal_number", Integer, nullable=False),
    #: Id, type and input values, case folded, for the text search.
    Column("words", Text, nullable=False),
    Column("idempotency_key", Text, unique=True),
    Column("request_hash", Text),
    Column("request_id", Text),
)

stages = Table(
    "stages",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=False),
    Column("job", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("place", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("on_error", Text, nullable=False),
    Column("task_class", Text, nullable=False),
    Column("spawn_class", Text),
    Column("queue", Text, nullable=False),
    Column("spawn_queue", Text),
    Column("max_parallel", Integer),
    Column("fail_fast", Integer, nullable=False),
    #: A number or a share, as in the catalogue.
    Column("max_failed", Text),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("spawn_priority", Integer, nullable=False, server_default="0"),
    Column("state", Text, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("queued", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    #: State of the spawn task; NULL where there is none.
    Column("spawn", Text),
    Column("expected", Integer),
    Column("error", Text),
    #: Tasks that may be claimed now, the queue they wait in, and minus their priority.
    Column("ready", Integer, nullable=False),
    Column("claim_queue", Text, nullable=False),
    Column("claim_rank", Integer, nullable=False, server_default="0"),
    #: Its place among the stages of its rank: it grows when the stage becomes ready and when its job was given a share.
    Column("served", BigInteger, nullable=False, server_default="0"),
    #: Items that are not tasks yet.
    Column("unfilled", Integer, nullable=False),
    Column("items_path", Text),
    Column("items_created", Integer, nullable=False),
    Column("items_offset", BigInteger, nullable=False),
    #: As in `jobs`.
    Column("by_whom", Text),
    Column("failing", Integer, nullable=False),
    Column("blocked", Integer, nullable=False),
    Column("spawn_hand", Integer, nullable=False),
    #: Tasks that people added.
    Column("added", Integer, nullable=False),
    #: Its present run, and how much more than the number of its tasks the next index is.
    Column("run", Integer, nullable=False, server_default="1"),
    Column("shift", Integer, nullable=False, server_default="0"),
    #: How many of the pending ones are paused, and of the cancelled ones no person has cancelled.
    Column("held", Integer, nullable=False),
    Column("withdrawn", Integer, nullable=False),
    #: How many of the running ones have started; the others wait at their workers. And whether the spawn task has.
    Column("started", Integer, nullable=False, server_default="0"),
    Column("spawn_started", Integer, nullable=False, server_default="0"),
    Column("etag", Integer, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("paused_at", Double),
    _allow_states("state"),
    _allow_states("spawn", optional=True),
    CheckConstraint("pending >= 0 AND queued >= 0 AND running >= 0 AND failed >= 0 AND cancelled >= 0"),
)
_READY = "ready > 0"
_LINE = (stages.c.claim_rank, stages.c.served, stages.c.key)
PartialIndex("stages_ready", _READY, *_LINE)
PartialIndex("stages_ready_by_queue", _READY, stages.c.claim_queue, *_LINE)
PartialIndex("stages_unfilled", "unfilled > 0", stages.c.key)
PartialIndex("stages_open", "state IN ('PENDING', 'RUNNING')", stages.c.key)

tasks = Table(
    "tasks",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=False),
    Column("task_id", _ID, nullable=False, unique=True),
    Column("stage", BigInteger, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("state", Text, nullable=False),
    #: Counts the claims. With the task and the worker it names what a worker was given.
    Column("attempt", Integer, nullable=False),
    #: How many of these claims ended without a start: the others are the task's attempts, numbered for people from 1.
    Column("unstarted", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    #: Key of the worker that runs it or ran it last.
    Column("worker", Integer),
    #: If the task does not run: until then the processes of its last attempt may still exist.
    Column("lease_until", Double),
    #: 0: it waits for the end of its last attempt, not for a time.
    Column("not_before", Double),
    #: While the task is RUNNING, NULL: it waits at its worker.
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("etag", Integer, nullable=False),
    Column("task_class", Text, nullable=False),
    Column("queue", Text, nullable=False),
    #: JSON object of the item's own values; NULL: none.
    Column("input", Text),
    Column("error", Text),
    Column("result", Text),
    #: As in `jobs`. A paused task is never QUEUED.
    Column("by_whom", Text),
    Column("paused_at", Double),
    #: `seal_number` of its job when secrets in `input` were sealed; NULL: there are none.
    Column("seal_number", Integer),
    #: Number of the earlier run of its stage that it was left behind with; 0: added by hand, so part of every run.
    Column("run", Integer),
    _allow_states("state"),
)
PartialIndex("tasks_queued", "state = 'QUEUED'", tasks.c.stage, tasks.c.idx)
PartialIndex("tasks_running", "state = 'RUNNING'", tasks.c.lease_until)
#: What people see as RUNNING. A task that ends before its start is told never enters it.
PartialIndex("tasks_started", "state = 'RUNNING' AND started_at IS NOT NULL", tasks.c.worker)
#: The tasks that `GET /errors` groups; the thousands that have not failed are not in it.
PartialIndex("tasks_failed", "state = 'FAILED'", tasks.c.stage, tasks.c.idx)
#: Attempts without a claim whose workers have not reported their end: as few as those that run.
PartialIndex("tasks_dying", "state <> 'RUNNING' AND lease_until IS NOT NULL", tasks.c.lease_until)
PartialIndex("tasks_waiting", "state = 'PENDING' AND not_before IS NOT NULL AND by_whom IS NULL", tasks.c.not_before)
#: Open tasks with secrets of their own.
PartialIndex(
    "tasks_sealed",
    "state IN ('PENDING', 'QUEUED') AND seal_number IS NOT NULL",
    tasks.c.stage,
    tasks.c.seal_number,
    tasks.c.idx,
)

#: Attempts that count and whose files may not be in the workspace yet: those of task classes with `workdir: task`. When
#: a task is repeated its line stays, until the files are there or the next attempt that counts takes its place.
unpublished = Table(
    "unpublished",
    metadata,
    Column("task", _KEY, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    #: Counts in the order in which the job's attempts ended.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("task", BigInteger, nullable=False),
    #: As in `tasks`, both.
    Column("attempt", Integer, nullable=False),
    Column("unstarted", Integer, nullable=False, server_default="0"),
    #: 0 for the only attempt of a completed task: the task's row has the same facts and is read instead.
    Column("kept", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("worker", Integer),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("error", Text),
    Column("started_at", Double),
    Column("ended_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
PartialIndex("attempts_by_task", "kept = 1", attempts.c.task, attempts.c.attempt)

events = Table(
    "events",
    metadata,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("stage", Integer),
    #: JSON object.
    Column("detail", Text),
    sqlite_with_rowid=False,
)

definitions = Table(
    "definitions",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

#: The own catalogue of a job that was composed in a request; deleted with the job.
compositions = Table(
    "compositions",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
)

#: Jobs that are deleted and of which tasks, history or files are left; `end_key` is the first key after its stages'.
removals = Table(
    "removals",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=False),
    Column("job_id", Text, nullable=False),
    Column("end_key", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    #: Never used twice: tasks and attempts keep it after the worker is gone.
    Column("key", Integer, primary_key=True, autoincrement=True),
    Column("worker_id", Text, nullable=False, unique=True),
    #: NULL until its first heartbeat.
    Column("name", Text),
    Column("host", Text),
    Column("version", Text),
    #: JSON object: slots per queue.
    Column("slots", Text),
    Column("draining", Integer),
    #: How it finds the processes that a task leaves; NULL: a worker of an earlier release.
    Column("containment", Text),
    Column("running", Integer),
    Column("last_seen_at", Double),
    #: Not used any more; a controller of an earlier release that still runs writes it.
    Column("as_of", Double),
    #: Its capacity as JSON: (number of the report, free slots, number of the last order, unseen grants).
    Column("demand", Text),
    Column("told_at", Double),
    #: Not shown any more.
    Column("gone", Integer, nullable=False),
    sqlite_autoincrement=True,
)
PartialIndex("workers_present", "gone = 0", workers.c.key)
