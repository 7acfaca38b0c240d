"""Records to JSON, written directly: a list of 500 tasks costs milliseconds here.

`schemas` documents the same shapes. Times become ISO 8601 in UTC with milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from flask import Response, request

from echelon.controller.core.states import ENDED
from echelon.controller.datastore.records import (
    SPAWN_INDEX,
    AttemptView,
    EventView,
    JobView,
    QueueView,
    RecordPage,
    RunningAttempt,
    StageView,
    TaskView,
    WorkerView,
)
from echelon.controller.engine.base.requests import Changed, Retried
from echelon.controller.engine.why.why import Reason
from echelon.shared.volume import Artefact

Item = TypeVar("Item")
Json = dict[str, object]

_encode = msgspec.json.Encoder(enc_hook=str).encode


def answer(body: object, *, status: int = 200, etag: str | None = None) -> Response:
    """Return a JSON answer; with an etag that the client has already, 304."""
    if etag is None:
        return Response(_encode(body), status=status, content_type="application/json")
    tag = f'"{etag}"'
    if request.method in ("GET", "HEAD") and etag in request.if_none_match:
        response = Response(status=304)
    else:
        response = Response(_encode(body), status=status, content_type="application/json")
    response.headers["ETag"] = tag
    return response


def page(found: RecordPage[Item], render: Callable[[Item], Json]) -> Response:
    """Return a page of a list."""
    return answer({"items": [render(item) for item in found.items], "next_cursor": found.next_cursor})


def everything(items: Iterable[Item], render: Callable[[Item], Json]) -> Response:
    """Return a list that needs no pages."""
    return answer({"items": [render(item) for item in items], "next_cursor": None})


def moment(seconds: float | None) -> str | None:
    """Return a time as users see it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def job_etag(view: JobView, waiting: Collection[int] = ()) -> str:
    """Return what changes whenever anything in the view of a job does, or which stages wait in vain."""
    # Every change of a stage is one of its job. Workers come and go without one: If-Match looks only before the dot.
    return f"{view.etag}.{'-'.join(map(str, waiting))}" if waiting else str(view.etag)


def stage_etag(view: StageView, waiting: str | None = None) -> str:
    """Return what changes whenever anything in the view of a stage does."""
    return f"{view.etag}.waiting" if waiting else str(view.etag)


def job(view: JobView, masked: Mapping[str, object], waiting: Mapping[int, str] | None = None) -> Json:
    """Return a job; `masked` is its input with the secrets masked, `waiting` what its stages wait for in vain."""
    waiting = waiting or {}
    return {
        "job_id": view.job_id,
        "type": view.type,
        "revision": view.revision,
        "state": view.state,
        "input": masked,
        "failed_tasks": view.failed_tasks,
        "error": view.error,
        "created_at": moment(view.created_at),
        "started_at": moment(view.started_at),
        "ended_at": moment(view.ended_at),
        "stages": [stage(one, waiting.get(one.number)) for one in view.stages],
        **_pause(view),
        "etag": job_etag(view, waiting),
    }


def stage(view: StageView, waiting: str | None = None) -> Json:
    """Return a stage."""
    tally = view.tally
    return {
        "number": view.number,
        "order": view.order,
        "name": view.name,
        "task_class": view.task_class,
        "spawn_task": view.spawn_task,
        "source": view.source,
        "on_error": view.on_error,
        "state": view.state,
        "counts": {
            "PENDING": tally.pending,
            "QUEUED": tally.queued,
            "RUNNING": tally.running,
            "COMPLETED": tally.completed,
            "FAILED": tally.failed,
            "CANCELLED": tally.cancelled,
            "SKIPPED": tally.skipped,
        },
        "total": view.expected,
        "spawn_state": view.spawn,
        "max_parallel": view.max_parallel,
        "queue": view.queue,
        "waiting": waiting,
        "error": view.error,
        "started_at": moment(view.started_at),
        "ended_at": moment(view.ended_at),
        **_pause(view),
        "etag": str(view.etag),
    }


def task(view: TaskView, values: Mapping[str, object]) -> Json:
    """Return a task; `values` are its input values with the secrets masked."""
    spawn = view.index == SPAWN_INDEX
    return {
        "task_id": view.task_id,
        "job_id": view.job_id,
        "stage": view.stage,
        "index": None if spawn else view.index,
        "spawn": spawn,
        "task_class": view.task_class,
        "queue": view.queue,
        "state": view.state,
        "attempt": view.attempt,
        "input": values,
        "worker": view.worker,
        "exit_code": view.exit_code,
        "signal": view.signal,
        "error": view.error,
        "result": view.result,
        "not_before": moment(view.not_before),
        "started_at": moment(view.started_at),
        "ended_at": moment(view.ended_at),
        **_pause(view),
        "etag": str(view.etag),
    }


def _pause(view: JobView | StageView | TaskView) -> Json:
    """Return whether a person holds something back, who, and since when."""
    paused = view.by is not None and view.state not in ENDED
    return {
        "paused": paused,
        "paused_by": view.by if paused else None,
        "paused_at": moment(view.paused_at) if paused else None,
    }


def attempt(view: AttemptView) -> Json:
    """Return an attempt that has ended."""
    return {
        "attempt": view.attempt,
        "outcome": view.outcome,
        "worker": view.worker,
        "exit_code": view.exit_code,
        "signal": view.signal,
        "error": view.error,
        "started_at": moment(view.started_at),
        "ended_at": moment(view.ended_at),
    }


def changed(found: Changed) -> Json:
    """Return what a verb came to."""
    return {
        "changed": {"jobs": found.jobs, "stages": found.stages, "tasks": found.tasks},
        "unchanged": [{"reason": one.reason, "count": one.count, "state": one.state} for one in found.unchanged],
    }


def retried(found: Retried) -> Json:
    """Return what became of each task of a list, and all of it as counts."""
    told = [
        {"task_id": one.task_id, "changed": one.changed, "reason": one.reason, "state": one.state}
        for one in found.tasks
    ]
    return {**changed(found.changed), "tasks": told}


def reason(found: Reason) -> Json:
    """Return why something does not move on."""
    task = found.task
    return {
        "code": found.code,
        "sentence": found.sentence,
        "stage": found.stage,
        "task_id": task.task_id if task else None,
        "index": task.index if task and task.index != SPAWN_INDEX else None,
        "at": moment(found.at),
        "by": found.by,
        "queue": found.queue,
        "running": found.running,
        "limit": found.limit,
    }


def event(view: EventView) -> Json:
    """Return a line of a job's history."""
    return {
        "number": view.number,
        "at": moment(view.at),
        "kind": view.kind,
        "stage": view.stage,
        "detail": view.detail,
    }


def artefact(found: Artefact) -> Json:
    """Return a file that a job left."""
    return {"path": found.path, "size": found.size, "modified_at": moment(found.modified_at)}


def worker(view: WorkerView, held: Sequence[RunningAttempt]) -> Json:
    """Return a worker and the attempts that it holds."""
    return {
        "worker_id": view.worker_id,
        "name": view.name,
        "host": view.host,
        "version": view.version,
        "state": view.state,
        "slots": view.slots,
        "running": view.running,
        "attempts": [_held(one) for one in held],
        "last_seen_at": moment(view.last_seen_at),
    }


def _held(one: RunningAttempt) -> Json:
    spawn = one.index == SPAWN_INDEX
    return {
        "task_id": one.task_id,
        "job_id": one.job_id,
        "stage": one.stage,
        "index": None if spawn else one.index,
        "spawn": spawn,
        "attempt": one.attempt,
        "started_at": moment(one.started_at),
    }


def queue(view: QueueView) -> Json:
    """Return what waits and runs in a queue."""
    return {"queue": view.queue, "ready": view.ready, "running": view.running}
