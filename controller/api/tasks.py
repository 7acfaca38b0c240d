"""Routes of tasks, and of abbreviated ids."""

from __future__ import annotations

import msgspec
from flask import Response

from echelon.controller import shapes
from echelon.controller.api import render, schemas
from echelon.controller.api.config import get_jobs
from echelon.controller.api.jobs import check_stage, find_job
from echelon.controller.api.problems import blamed_on
from echelon.controller.api.queries import IdQuery, TasksQuery
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.records import TaskView
from echelon.controller.engine.why.errors import READ_AT_MOST
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId, TaskId

routes = Routes("tasks", "Units of work, and how each of their executions ended.")

#: A page holds fewer tasks than asked for rather than more bytes of job inputs.
_BYTES_OF_INPUT = 8 << 20
_FOUND_AT_MOST = 10


@routes.add_get(
    "/jobs/<uuid:job_id>/tasks",
    RouteAnswer(shapes.PageOf[shapes.Task], description="Tasks by stage and index, the spawn task first."),
    query=schemas.TasksQuerySchema,
    refuses=[404],
)
def list_tasks(query: TasksQuery, job_id: object) -> Response:
    """List a job's tasks by stage and index, each stage's spawn task first."""
    job = find_job(JobId(str(job_id)))
    names = get_jobs().label_tasks(job)
    size = len(msgspec.json.encode(get_jobs().masked_input(job)))
    limit = min(query.limit, max(1, _BYTES_OF_INPUT // size))
    if query.stage is not None:
        check_stage(job, query.stage)
    wanted = TaskFilter(query.stage, query.state, query.index, query.run)
    with get_jobs().store.read() as reader, blamed_on("#/query/cursor"):
        found = reader.list_tasks(job.job_id, wanted, limit=limit, cursor=query.cursor)
    return render.make_page(found, lambda task: render.render_task(task, names))


@routes.add_get(
    "/jobs/<uuid:job_id>/errors",
    RouteAnswer(shapes.JobErrors, description="Errors of the same kind together, the commonest first."),
    refuses=[404],
)
def list_errors(job_id: object) -> Response:
    """Tell why tasks of a job have failed: errors that differ only in numbers, paths and values are counted as one."""
    job = find_job(JobId(str(job_id)))
    with get_jobs().store.read() as reader:
        failures = reader.list_failures(job.job_id, limit=READ_AT_MOST)
    return render.make_answer(render.render_errors(job, failures, get_jobs().label_tasks(job)))


@routes.add_get(
    "/tasks/<uuid:task_id>",
    RouteAnswer(shapes.TaskWithAttempts, description="The task.", headers={"ETag": "Changes whenever the task does."}),
    refuses=[404],
)
def get_task(task_id: object) -> Response:
    """Tell how a task stands, and how its attempts ended."""
    view = find_task(TaskId(str(task_id)))
    job = find_job(view.job_id)
    with get_jobs().store.read() as reader:
        attempts = reader.list_attempts(view.task_id)
    ended = [render.fill_shape(shapes.Attempt, one) for one in attempts]
    return render.make_answer(
        {**render.render_task(view, get_jobs().label_tasks(job)), "attempts": ended}, etag=str(view.etag)
    )


@routes.add_get("/ids", RouteAnswer(shapes.MatchingIds, description="Whole ids."), query=schemas.IdQuerySchema)
def find_ids(query: IdQuery) -> Response:
    """Find the jobs and tasks whose id begins with something."""
    with get_jobs().store.read() as reader:
        found_jobs, found_tasks = reader.find_by_prefix(query.prefix, limit=_FOUND_AT_MOST)
    return render.make_answer({"jobs": found_jobs, "tasks": found_tasks})


def answer_task(task_id: TaskId, *, more: shapes.ChangeResult) -> Response:
    """Return a task without its attempts; `more` stands beside it."""
    view = find_task(task_id)
    body = {**render.render_task(view, get_jobs().label_tasks(find_job(view.job_id))), **more}
    return render.make_answer(body, etag=str(view.etag))


def find_task(task_id: TaskId) -> TaskView:
    """Return a task; NotFound when there is none."""
    with get_jobs().store.read() as reader:
        view = reader.find_task(task_id)
    if view is None:
        raise NotFound(f"there is no task {task_id}")
    return view
