"""Routes of logs: what tasks have printed, and what they print now."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response

from echelon.controller.api import schemas, texts
from echelon.controller.api.config import context, jobs
from echelon.controller.api.follow import Follower
from echelon.controller.api.jobs import view_of
from echelon.controller.api.queries import LogQuery
from echelon.controller.api.routes import PART_OF_TEXT, TEXT, Routes
from echelon.controller.api.tasks import task_of
from echelon.controller.api.transcripts import Place, job_text, task_text
from echelon.controller.api.waiting import client_socket
from echelon.controller.datastore.records import TaskView
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId, TaskId

routes = Routes("logs", "What tasks print, as text.")

_RANGE = {"Range": "bytes=0-999: that part of the text."}


@routes.route(
    "GET",
    "/jobs/<uuid:job_id>/log",
    [TEXT, PART_OF_TEXT],
    query=schemas.FollowQuerySchema,
    refuses=[404],
    headers=_RANGE,
)
def get_job_log(query: LogQuery, job_id: object) -> Response:
    """Tell what all tasks of a job have printed, by stage, index and attempt, each part under a line that names it."""
    job = view_of(JobId(str(job_id)))
    here = context()
    if query.follow:
        follower = Follower(here.jobs, here.settings.stopping, client_socket())
        return texts.answer(lambda: follower.job(job), ranges=False)
    return texts.answer(lambda: job_text(here.jobs, job))


@routes.route(
    "GET",
    "/tasks/<uuid:task_id>/log",
    [TEXT, PART_OF_TEXT],
    query=schemas.LogQuerySchema,
    refuses=[404],
    headers=_RANGE,
)
def get_task_log(query: LogQuery, task_id: object) -> Response:
    """Tell what one attempt of a task has printed; a line stands between stdout and stderr where both are wanted."""
    task = task_of(TaskId(str(task_id)))
    if query.attempt is not None and query.attempt > task.attempt:
        raise NotFound(f"task {task.task_id} has had {task.attempt} attempts, no number {query.attempt}")
    here = context()
    if query.follow:
        follower = Follower(here.jobs, here.settings.stopping, client_socket())
        return texts.answer(lambda: follower.task(task, stream=query.stream, attempt=query.attempt), ranges=False)
    return texts.answer(lambda: _printed(task, query))


def _printed(task: TaskView, query: LogQuery) -> Iterator[bytes]:
    place = Place(task.job_id, task.stage, task.index, query.attempt or task.attempt)
    return task_text(jobs().volume, place, query.stream)
