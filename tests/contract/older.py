"""Stores as earlier releases left them: any schema there ever was, and the jobs of the first one, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from echelon.controller.datastore import migrate as migrating
from echelon.controller.datastore.tables import metadata, task_key
from echelon.shared.ids import JobId, TaskId
from echelon.shared.volume import attempt_name


@contextmanager
def schema(url: str, name: str) -> Iterator[Connection]:
    """Make an empty store of an earlier schema and give a connection whose changes are committed at the end."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for table in (*metadata.tables, "alembic_version"):
            connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP SEQUENCE IF EXISTS job_keys, history_numbers"))
        config = Config()
        config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, name)
        yield connection
    engine.dispose()


def insert(connection: Connection, table: str, row: Mapping[str, Any]) -> None:
    """Insert a row as it is."""
    names = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO {table} ({names[0]}) VALUES ({names[1]})"), row)


#: A job that had just begun, one in the middle of a fan-out, one that had failed and one that a person had cancelled.
BEGUN, HALFWAY, FAILED, CANCELLED = (JobId(f"{number:08x}-0000-4000-8000-000000000000") for number in (1, 3, 5, 7))
#: The key of each; those of its stages follow.
_KEYS = {BEGUN: 1, HALFWAY: 3, FAILED: 5, CANCELLED: 7}
_LAST_KEY = 7
#: Items of the fan-out, of which four were tasks already.
ITEMS = tuple(json.dumps({"url": f"u{number}"}) + "\n" for number in range(6))
ITEMS_PATH = f"{attempt_name(HALFWAY, 0, -1, 1)}/items.ndjson"


def task_of(job_id: JobId, stage: int, index: int) -> TaskId:
    """Return the id of a task of those jobs."""
    return TaskId(f"{_KEYS[job_id]:08x}-{stage:04x}-4000-8000-{index + 1:012x}")


def leave_first_store(url: str, *, token: str) -> None:
    """Leave what the first release did, killed in the middle of its work. `token` is sealed with the volume's key."""
    with schema(url, "0001") as connection:
        insert(connection, "definitions", {"revision": _REVISION, "document": json.dumps(_DOCUMENT), "created_at": 1})
        insert(connection, "workers", {"worker_id": "gone", "name": "gone", "host": "h", "last_seen_at": 9, "gone": 0})
        _begun(connection)
        _halfway(connection, token)
        _failed(connection, token)
        _cancelled(connection)
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT setval('job_keys', {_LAST_KEY}), setval('history_numbers', 100)"))


def _begun(connection: Connection) -> None:
    _job(connection, BEGUN, "two", "RUNNING", stage_count=2)
    _stage(connection, BEGUN, 0, "RUNNING", queued=1, ready=1)
    _task(connection, BEGUN, 0, 0, "QUEUED")
    _stage(connection, BEGUN, 1, "PENDING", pending=1)
    _task(connection, BEGUN, 1, 0, "PENDING")


def _halfway(connection: Connection, token: str) -> None:
    _job(connection, HALFWAY, "many", "RUNNING", stage_count=2, secret='["token"]', sealed=json.dumps({"token": token}))
    _stage(
        connection, HALFWAY, 0, "RUNNING", **_FAN_OUT, spawn="COMPLETED", expected=len(ITEMS), pending=1, queued=1,
        running=1, completed=1, ready=1, unfilled=2, items_path=ITEMS_PATH, items_created=4,
        items_offset=sum(map(len, ITEMS[:4])),
    )  # fmt: skip
    _task(connection, HALFWAY, 0, -1, "COMPLETED", attempt=1, task_class="list", worker=1, started_at=2, ended_at=3)
    done = {"attempt": 1, "worker": 1, "started_at": 4}
    fetch = {"task_class": "fetch", "input": json.dumps({"url": "u", "key": token})}
    _task(connection, HALFWAY, 0, 0, "COMPLETED", **done, **fetch, ended_at=5, exit_code=0, result="done")
    _task(connection, HALFWAY, 0, 1, "RUNNING", **done, **fetch, lease_until=20)
    _task(connection, HALFWAY, 0, 2, "PENDING", **done, **fetch, failures=1, not_before=10, ended_at=5, error="exit 1")
    _task(connection, HALFWAY, 0, 3, "QUEUED", **fetch)
    _attempt(connection, HALFWAY, 1, -1, "completed", kept=0)
    _attempt(connection, HALFWAY, 2, 0, "completed", kept=0)
    _attempt(connection, HALFWAY, 3, 2, "failed", error="exit 1")
    _stage(connection, HALFWAY, 1, "PENDING", pending=1)
    _task(connection, HALFWAY, 1, 0, "PENDING")


def _failed(connection: Connection, token: str) -> None:
    error = "task 1: exit code 1"
    _job(connection, FAILED, "many", "FAILED", stage_count=2, secret='["token"]', ended_at=9,
         error=f"stage 0 (Fetch) failed: {error}")  # fmt: skip
    _stage(
        connection, FAILED, 0, "FAILED", **_FAN_OUT, spawn="COMPLETED", expected=4, completed=1, failed=2, cancelled=1,
        error=error, ended_at=9, items_path="gone", items_created=4, items_offset=4,
    )  # fmt: skip
    _task(connection, FAILED, 0, -1, "COMPLETED", attempt=1, task_class="list", worker=1, started_at=2, ended_at=3)
    done = {"attempt": 1, "worker": 1, "started_at": 4, "ended_at": 8}
    fetch = {"task_class": "fetch", "input": json.dumps({"url": "u", "key": token})}
    _task(connection, FAILED, 0, 0, "COMPLETED", **done, **fetch, exit_code=0)
    for index in (1, 3):
        _task(connection, FAILED, 0, index, "FAILED", **done, **fetch, failures=1, exit_code=1, error="exit code 1")
    _task(connection, FAILED, 0, 2, "CANCELLED", **fetch, ended_at=8)
    _attempt(connection, FAILED, 4, -1, "completed", kept=0)
    _attempt(connection, FAILED, 5, 0, "completed", kept=0)
    for number, index in ((6, 1), (7, 3)):
        _attempt(connection, FAILED, number, index, "failed", exit_code=1, error="exit code 1")
    _stage(connection, FAILED, 1, "CANCELLED", cancelled=1, ended_at=9)
    _task(connection, FAILED, 1, 0, "CANCELLED", ended_at=9)


def _cancelled(connection: Connection) -> None:
    _job(connection, CANCELLED, "one", "CANCELLED", stage_count=1, ended_at=9)
    _stage(connection, CANCELLED, 0, "CANCELLED", cancelled=1, ended_at=9)
    _task(connection, CANCELLED, 0, 0, "CANCELLED", attempt=1, worker=1, started_at=4, ended_at=9)
    _attempt(connection, CANCELLED, 8, 0, "stopped")


def _job(connection: Connection, job_id: JobId, kind: str, state: str, **more: object) -> None:
    inputs = {name: more.pop(name, default) for name, default in (("secret", "[]"), ("sealed", None))}
    key = _KEYS[job_id]
    row = {"key": key, "job_id": job_id, "type": kind, "state": state, "etag": 3, "created_at": 1, "started_at": 1}
    insert(connection, "jobs", row | more)
    insert(connection, "job_inputs", {"key": key, "revision": _REVISION, "input": "{}", "words": kind, **inputs})
    event = {"job": key, "number": key, "at": 1, "kind": "job_submitted", "stage": None, "detail": None}
    insert(connection, "events", event)


def _stage(connection: Connection, job_id: JobId, number: int, state: str, **more: object) -> None:
    row = {
        "key": _KEYS[job_id] + number, "job": _KEYS[job_id], "number": number, "place": number, "name": "One",
        "source": "fixed", "on_error": "fail_job", "task_class": "step", "queue": "default", "fail_fast": 0,
        "state": state, "expected": 1, "claim_queue": "default", "etag": 2,
        "started_at": None if state == "PENDING" else 1, **dict.fromkeys(_COUNTERS, 0),
    }  # fmt: skip
    insert(connection, "stages", row | more)


def _task(connection: Connection, job_id: JobId, stage: int, index: int, state: str, **more: object) -> None:
    key = _KEYS[job_id] + stage
    row = {
        "key": task_key(key, index), "task_id": task_of(job_id, stage, index), "stage": key, "idx": index,
        "state": state, "task_class": "step", "queue": "default", "etag": 2,
        **dict.fromkeys(("attempt", "failures", "losses"), 0),
    }  # fmt: skip
    insert(connection, "tasks", row | more)


def _attempt(
    connection: Connection, job_id: JobId, number: int, index: int, outcome: str, *, kept: int = 1, **more: object
) -> None:
    key = _KEYS[job_id]
    row = {"job": key, "number": number, "task": task_key(key, index), "attempt": 1, "kept": kept, "worker": 1}
    insert(connection, "attempts", row | {"outcome": outcome, "started_at": 4, "ended_at": 5} | more)


_COUNTERS = (
    "pending", "queued", "running", "completed", "failed", "cancelled", "skipped", "ready", "unfilled",
    "items_created", "items_offset",
)  # fmt: skip
_FAN_OUT = {"name": "Fetch", "source": "spawn", "task_class": "fetch", "spawn_class": "list", "spawn_queue": "default"}


def _input(name: str, **more: object) -> dict[str, object]:
    empty = dict.fromkeys(("description", "type", "default", "enum", "pattern", "minimum", "maximum"))
    plain = {"name": name, "source": "parameter", "key": "", "required": True, "secret": False}
    return {**plain, **empty, "allow_leading_dash": False, **more}


def _class(name: str, **more: object) -> dict[str, object]:
    retry = {"limit": 1, "delay": 1.0, "factor": 2.0, "max_delay": 300.0}
    nothing = {"exec_args": [], "env": {}, "name": None, "description": None, "input": {}, "leading": []}
    plain = {"queue": "default", "timeout": None, "grace": 5.0, "retry": retry, "workdir": "job"}
    return {"task_class": name, "exec_command": "true", **nothing, **plain, **more}


def _described(name: str, task_class: str, spawn_task: str | None = None) -> dict[str, object]:
    plain = {"job_failed_on_error": True, "fail_fast": False, "max_parallel": None}
    return {"name": name, "task_class": task_class, "spawn_task": spawn_task, **plain}


def _job_type(name: str, *stages: dict[str, object], **more: object) -> dict[str, object]:
    plain = {"name": None, "description": None, "input": {}, "secret": [], "leading": []}
    return {"type": name, "stages": list(stages), **plain, **more}


_REVISION = "0123456789abcdef"
_TOKEN = _input("token", source="http-header", key="Authorization", secret=True)
_FETCHED = {"url": _input("url"), "key": _input("key", required=False, default="none", secret=True)}
#: The catalogue as that release wrote it into the store.
_DOCUMENT = {
    "revision": _REVISION,
    "tasks": {
        "step": _class("step"),
        "list": _class("list", input={"token": _input("token", secret=True)}),
        "fetch": _class("fetch", input=_FETCHED),
    },
    "jobs": {
        "one": _job_type("one", _described("One", "step")),
        "two": _job_type("two", _described("One", "step"), _described("One", "step")),
        "many": _job_type(
            "many",
            _described("Fetch", "fetch", "list"),
            _described("One", "step"),
            input={"token": _TOKEN},
            secret=["token"],
        ),
    },
}
