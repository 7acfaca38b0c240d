"""Routes of logs: what tasks have printed, and what they print now."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response

from echelon.controller.api import schemas, texts
from echelon.controller.api.config import get_context, get_jobs
from echelon.controller.api.follow import Follower
from echelon.controller.api.jobs import find_job
from echelon.controller.api.queries import LogQuery
from echelon.controller.api.routes import PART_OF_TEXT, TEXT, Routes
from echelon.controller.api.tasks import find_task
from echelon.controller.api.transcripts import AttemptLog, find_claims, read_job_log, read_task_log
from echelon.controller.api.waiting import client_socket
from echelon.controller.datastore.records import TaskView
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId, TaskId

routes = Routes("logs", "What tasks print, as text.")

_RANGE = {"Range": "bytes=0-999: that part of the text."}


@routes.add_route(
    "GET",
    "/jobs/<uuid:job_id>/log",
    [TEXT, PART_OF_TEXT],
    query=schemas.FollowQuerySchema,
    refuses=[404],
    headers=_RANGE,
)
def get_job_log(query: LogQuery, job_id: object) -> Response:
    """Tell what all tasks of a job have printed, by stage, index and attempt, each part under a line that names it."""
    job = find_job(JobId(str(job_id)))
    here = get_context()
    if query.follow:
        follower = Follower(here.jobs, here.settings.stopping, client_socket(), query.since or 0.0)
        return texts.answer_text(lambda: follower.follow_job(job), ranges=False)
    return texts.answer_text(lambda: read_job_log(here.jobs, job, query.since or 0.0))


@routes.add_route(
    "GET",
    "/tasks/<uuid:task_id>/log",
    [TEXT, PART_OF_TEXT],
    query=schemas.LogQuerySchema,
    refuses=[404],
    headers=_RANGE,
)
def get_task_log(query: LogQuery, task_id: object) -> Response:
    """Tell what one attempt of a task has printed; a line stands between stdout and stderr where both are wanted."""
    task = find_task(TaskId(str(task_id)))
    if query.attempt is not None and query.attempt > task.attempt:
        raise NotFound(f"task {task.task_id} has no attempt {query.attempt}: it has had {task.attempt}")
    here = get_context()
    if query.follow:
        follower = Follower(here.jobs, here.settings.stopping, client_socket(), query.since or 0.0)
        return texts.answer_text(
            lambda: follower.follow_task(task, stream=query.stream, attempt=query.attempt), ranges=False
        )
    return texts.answer_text(lambda: _answer_log(task, query))


def _answer_log(task: TaskView, query: LogQuery) -> Iterator[bytes]:
    number = query.attempt or task.attempt
    claim = find_claims(get_jobs(), task).get(number, 0)
    log = AttemptLog(task.job_id, task.stage, task.index, number, claim)
    return read_task_log(get_jobs().volume, log, query.stream, query.since or 0.0)
