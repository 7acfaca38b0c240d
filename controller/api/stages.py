"""Routes of stages: look at one, and add tasks to it."""

from __future__ import annotations

from flask import Response, g, request

from echelon.controller import shapes
from echelon.controller.api import control_schemas, render
from echelon.controller.api.bodies import read_json
from echelon.controller.api.config import context, jobs
from echelon.controller.api.etags import IF_MATCH, guarded
from echelon.controller.api.jobs import view_of
from echelon.controller.api.problems import invalid
from echelon.controller.api.queries import AddQuery
from echelon.controller.api.routes import Answer, Routes
from echelon.controller.datastore.records import JobView, StageView
from echelon.controller.engine.base.requests import InvalidInputs, Mistake, Who
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId

routes = Routes("stages", "Steps of a job.")

_ETAG = {"ETag": "Changes whenever the stage does."}
_ITEM = {"type": "object", "description": "Values by name, as an item of a spawn.json."}
_ITEMS = {"oneOf": [_ITEM, {"type": "array", "items": _ITEM, "minItems": 1}]}


@routes.get(
    "/jobs/<uuid:job_id>/stages/<int:stage>",
    Answer(shapes.Stage, description="The stage.", headers=_ETAG),
    refuses=[404],
)
def get_stage(job_id: object, stage: int) -> Response:
    """Tell how a stage stands."""
    return answer(JobId(str(job_id)), stage)


@routes.route(
    "POST",
    "/jobs/<uuid:job_id>/stages/<int:stage>/tasks",
    [Answer(shapes.AddedTasks, 201, "They are in the store.", headers=_ETAG)],
    query=control_schemas.AddQuerySchema,
    any_body=_ITEMS,
    refuses=[404, 409, 412],
    headers=IF_MATCH,
)
def add_tasks(query: AddQuery, job_id: object, stage: int) -> Response:
    """Add one task or a list of them to a stage that has not begun or is paused; checked like spawned items."""
    known, body = JobId(str(job_id)), read_json(request.get_data())
    if not isinstance(body, dict | list):
        raise invalid("#", "must be an object with the values of one task, or a list of such objects")
    items = body if isinstance(body, list) else [body]
    try:
        added = guarded(
            lambda etag: jobs().control.add_tasks(
                known, stage, items, who=Who(g.request_id), etag=etag, paused=query.paused
            )
        )
    except InvalidInputs as error:
        raise InvalidInputs([_placed(one, isinstance(body, dict)) for one in error.mistakes]) from error
    _, view = stage_of(known, stage)
    return render.answer(render.fill(shapes.AddedTasks, added), status=201, etag=render.stage_etag(view))


def answer(job_id: JobId, stage: int, *, more: shapes.ChangeResult | None = None) -> Response:
    """Return a stage; `more` stands beside it."""
    job, view = stage_of(job_id, stage)
    waiting = context().listeners.waiting(job).get(stage)
    return render.answer({**render.stage(view, waiting), **(more or {})}, etag=render.stage_etag(view, waiting))


def stage_of(job_id: JobId, stage: int) -> tuple[JobView, StageView]:
    """Return a job and one of its stages; NotFound when there is none."""
    job = view_of(job_id)
    if stage >= len(job.stages):
        raise NotFound(f"job {job_id} has no stage {stage}: they are numbered from 0 to {len(job.stages) - 1}")
    return job, job.stages[stage]


def _placed(mistake: Mistake, single: bool) -> Mistake:
    """Let a mistake point into the body: the use case speaks of a list by the name of tasks."""
    pointer = mistake.pointer.removeprefix("#/tasks/0" if single else "#/tasks")
    return Mistake("#" + pointer.removeprefix("#/tasks"), mistake.detail)
