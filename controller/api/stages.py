"""Routes of stages: look at one, and add tasks to it."""

from __future__ import annotations

from flask import Response, g, request

from echelon.controller import shapes
from echelon.controller.api import control_schemas, render
from echelon.controller.api.bodies import read_json
from echelon.controller.api.config import get_context, get_jobs
from echelon.controller.api.etags import IF_MATCH, act_if_match
from echelon.controller.api.headers import read_user
from echelon.controller.api.jobs import check_stage, find_job
from echelon.controller.api.problems import refuse_value
from echelon.controller.api.queries import AddQuery
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.datastore.records import JobView, StageView
from echelon.controller.engine.base.requests import InvalidInputs, RequestMistake, Who
from echelon.shared.ids import JobId

routes = Routes("stages", "Steps of a job.")

_ETAG = {"ETag": "Changes whenever the stage does."}
_ITEM = {"type": "object", "description": "Values by name, as an item of a spawn.json."}
_ITEMS = {"oneOf": [_ITEM, {"type": "array", "items": _ITEM, "minItems": 1}]}


@routes.add_get(
    "/jobs/<uuid:job_id>/stages/<int:stage>",
    RouteAnswer(shapes.Stage, description="The stage.", headers=_ETAG),
    refuses=[404],
)
def get_stage(job_id: object, stage: int) -> Response:
    """Tell how a stage stands."""
    return answer_stage(JobId(str(job_id)), stage)


@routes.add_route(
    "POST",
    "/jobs/<uuid:job_id>/stages/<int:stage>/tasks",
    [RouteAnswer(shapes.AddedTasks, 201, "They are in the store.", headers=_ETAG)],
    query=control_schemas.AddQuerySchema,
    any_body=_ITEMS,
    refuses=[404, 409, 412],
    headers=IF_MATCH,
)
def add_tasks(query: AddQuery, job_id: object, stage: int) -> Response:
    """Add one task or a list of them to a stage that has not begun or is paused; checked like spawned items."""
    known, body = JobId(str(job_id)), read_json(request.get_data())
    if not isinstance(body, dict | list):
        raise refuse_value("#", "must be an object with the values of one task, or a list of such objects")
    items = body if isinstance(body, list) else [body]
    try:
        added = act_if_match(
            lambda etag: get_jobs().control.add_tasks(
                known, stage, items, who=Who(g.request_id, read_user(request)), etag=etag, paused=query.paused
            )
        )
    except InvalidInputs as error:
        raise InvalidInputs([_point_into_body(one, isinstance(body, dict)) for one in error.mistakes]) from error
    _, view = find_stage(known, stage)
    return render.make_answer(render.fill_shape(shapes.AddedTasks, added), status=201, etag=render.stage_etag(view))


def answer_stage(job_id: JobId, stage: int, *, more: shapes.ChangeResult | None = None) -> Response:
    """Return a stage; `more` stands beside it."""
    job, view = find_stage(job_id, stage)
    waiting = get_context().served_queues.explain_waiting(job).get(stage)
    return render.make_answer(
        {**render.render_stage(view, waiting), **(more or {})}, etag=render.stage_etag(view, waiting)
    )


def find_stage(job_id: JobId, stage: int) -> tuple[JobView, StageView]:
    """Return a job and one of its stages; NotFound when there is none."""
    job = find_job(job_id)
    check_stage(job, stage)
    return job, job.stages[stage]


def _point_into_body(mistake: RequestMistake, single: bool) -> RequestMistake:
    """Let a mistake point into the body: the use case speaks of a list by the name of tasks."""
    pointer = mistake.pointer.removeprefix("#/tasks/0" if single else "#/tasks")
    return RequestMistake("#" + pointer.removeprefix("#/tasks"), mistake.detail)
