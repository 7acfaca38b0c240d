"""Routes of live control: pause, resume, cancel, kill, retry and skip jobs, stages and tasks.

Every answer holds the object as it is now, the number of changed things, and the unchanged ones with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import marshmallow
from flask import Response, g, request

from echelon.controller import shapes
from echelon.controller.api import control_schemas as schemas
from echelon.controller.api import headers, jobs, render, stages, tasks
from echelon.controller.api.config import get_jobs as use_cases
from echelon.controller.api.etags import IF_MATCH, act_if_match, parse_etag
from echelon.controller.api.problems import blamed_on, refuse_value
from echelon.controller.api.queries import ChoiceQuery
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.core.answers import Kind, Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Changed, Choice, Given, Who, index_spans
from echelon.controller.engine.control.control import Control
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import JsonValue

_VERBS = (Verb.PAUSE, Verb.RESUME, Verb.CANCEL, Verb.KILL, Verb.RETRY, Verb.SKIP)
#: Verbs that may open an ended job again: what was erased at its end is given with them.
_REOPENING = (Verb.RETRY, Verb.SKIP)
_SUMMARIES = {
    Verb.PAUSE: "Pause {}: none of its tasks start; running tasks continue.",
    Verb.RESUME: "Resume {}.",
    Verb.CANCEL: "Cancel {}: running tasks are ended.",
    Verb.KILL: "End running tasks of {} now, as failed attempts.",
    Verb.RETRY: "Run failed and cancelled tasks of {} again; erased secrets are given again.",
    Verb.SKIP: "Count {} as done; running tasks are ended.",
}

Body = dict[str, dict[str, JsonValue]]


def _job_view(verb: Verb) -> Callable[..., Response]:
    def view(query: ChoiceQuery, body: Body, job_id: object) -> Response:
        known, choice = JobId(str(job_id)), _parse_choice(query)
        changed = _act_guarded(
            lambda etag: get_control().change_job(
                verb, known, who=get_requester(), etag=etag, choice=choice, given=_parse_secrets(verb, body)
            )
        )
        _refuse_nothing(verb, "job", choice, changed)
        return jobs.answer_job(known, more=render.render_change(changed))

    return view


def _stage_view(verb: Verb) -> Callable[..., Response]:
    def view(query: ChoiceQuery, body: Body, job_id: object, stage: int) -> Response:
        known, choice, given = JobId(str(job_id)), _parse_choice(query), _parse_secrets(verb, body)
        changed = _act_guarded(
            lambda etag: get_control().change_stage(
                verb, known, stage, who=get_requester(), etag=etag, choice=choice, given=given
            )
        )
        _refuse_nothing(verb, "stage", choice, changed)
        return stages.answer_stage(known, stage, more=render.render_change(changed))

    return view


def _task_view(verb: Verb) -> Callable[..., Response]:
    def view(query: ChoiceQuery, body: Body, task_id: object) -> Response:
        known, given = TaskId(str(task_id)), _parse_secrets(verb, body)
        changed = _act_guarded(
            lambda etag: get_control().change_task(
                verb, known, who=get_requester(), etag=etag, only_failed=query.only_failed,
                downstream=query.downstream, given=given,
            )
        )
        return tasks.answer_task(known, more=render.render_change(changed))

    return view


def retry_tasks(query: ChoiceQuery, body: list[dict[str, object]]) -> Response:
    """Run tasks of any jobs again, each only while it has the etag beside its id.

    The answer has a result for each task; one that cannot run again does not affect the others. Erased secrets of a job
    are given again as headers.
    """
    wanted: dict[TaskId, int | None] = {}
    for place, one in enumerate(body):
        task_id, etag = TaskId(cast(str, one["task_id"]).lower()), cast("str | None", one["etag"])
        if task_id in wanted:
            raise refuse_value(f"#/{place}/task_id", "is listed twice")
        wanted[task_id] = None if etag is None else parse_etag(etag.strip('"'))
    with headers.malformed_if_repeated(request):
        given = Given(headers=headers.read_job_headers(request))
        retried = get_control().retry_tasks(wanted, who=get_requester(), downstream=query.downstream, given=given)
    return render.make_answer(render.render_retried(retried))


def set_job_priority(body: dict[str, int], job_id: object) -> Response:
    """Change the priority of the waiting tasks of a job; it replaces that of their task classes."""
    known = JobId(str(job_id))
    changed = _set_priority(known, body["priority"])
    return jobs.answer_job(known, more=render.render_change(changed))


def set_stage_priority(body: dict[str, int], job_id: object, stage: int) -> Response:
    """Change the priority of the waiting tasks of a stage; it replaces that of the task class."""
    known = JobId(str(job_id))
    changed = _set_priority(known, body["priority"], stage)
    return stages.answer_stage(known, stage, more=render.render_change(changed))


def _set_priority(job_id: JobId, priority: int, stage: int | None = None) -> Changed:
    return _act_guarded(
        lambda etag: get_control().set_priority(job_id, priority, stage=stage, who=get_requester(), etag=etag)
    )


# --- what they share


def get_control() -> Control:
    """Return the use cases of live control."""
    return use_cases().control


def get_requester() -> Who:
    """Return the requester, as the history names it."""
    return Who(g.request_id, headers.read_user(request))


def _act_guarded(act: Callable[[int | None], Changed]) -> Changed:
    with headers.malformed_if_repeated(request):
        return act_if_match(act)


def _parse_choice(query: ChoiceQuery) -> Choice:
    spans = None
    if query.index is not None:
        with blamed_on("#/query/index"):
            spans = index_spans(query.index)
    return Choice(State(query.state) if query.state else None, spans, query.only_failed, query.downstream)


def _parse_secrets(verb: Verb, body: Body) -> Given:
    if verb not in _REOPENING:
        return Given()
    return Given(body.get("input", {}), headers.read_job_headers(request))


def _refuse_nothing(verb: Verb, what: str, choice: Choice, changed: Changed) -> None:
    """Answer 409 when a whole job or stage was to run again and nothing of it can."""
    nothing = not (changed.tasks or changed.stages or changed.jobs)
    reasons = [left.reason for left in changed.unchanged if left.state is None]
    if verb is Verb.RETRY and nothing and reasons and not choice.of_tasks:
        raise Conflict(f"the {what} cannot be retried: {reasons[0]}")


# --- the routes, one for each verb and each kind of thing


def _register_verb(
    routes: Routes, verb: Verb, kind: Kind, path: str, view: Callable[..., Response], shape: object
) -> None:
    view.__name__ = f"{verb}_{kind}"
    view.__doc__ = _SUMMARIES[verb].format(f"a {kind}")
    query = _query_schema(verb, kind)
    routes.add_route(
        "POST",
        f"{path}/{verb}",
        [RouteAnswer(shape, description=f"The {kind}, and what it came to.", headers=_ETAG)],
        query=query,
        body=(schemas.GivenSchema if verb in _REOPENING else schemas.EmptyBodySchema)(query),
        body_required=False,
        refuses=[404, 409, 412],
        headers=IF_MATCH,
    )(view)


def _query_schema(verb: Verb, kind: Kind) -> type[marshmallow.Schema]:
    if kind is Kind.TASK:
        return schemas.RetryTaskQuerySchema if verb is Verb.RETRY else schemas.NothingSchema
    return schemas.RetryQuerySchema if verb is Verb.RETRY else schemas.ChoiceQuerySchema


def _build_routes() -> Routes:
    made = Routes("control", "What people do to jobs, stages and tasks while they run.")
    for verb in _VERBS:
        _register_verb(made, verb, Kind.JOB, "/jobs/<uuid:job_id>", _job_view(verb), shapes.ChangedJob)
        path = "/jobs/<uuid:job_id>/stages/<int:stage>"
        _register_verb(made, verb, Kind.STAGE, path, _stage_view(verb), shapes.ChangedStage)
        _register_verb(made, verb, Kind.TASK, "/tasks/<uuid:task_id>", _task_view(verb), shapes.ChangedTask)
    priorities: tuple[tuple[str, object, Callable[..., Response]], ...] = (
        ("/jobs/<uuid:job_id>/priority", shapes.ChangedJob, set_job_priority),
        ("/jobs/<uuid:job_id>/stages/<int:stage>/priority", shapes.ChangedStage, set_stage_priority),
    )
    for path, shape, view in priorities:
        made.add_route(
            "POST",
            path,
            [RouteAnswer(shape, description="It, and what it came to.", headers=_ETAG)],
            body=schemas.PrioritySchema,
            refuses=[404, 409, 412],
            headers=IF_MATCH,
        )(view)
    made.add_route(
        "POST",
        "/tasks/retry",
        [RouteAnswer(shapes.RetriedTasks, description="What it came to.")],
        query=schemas.RetryListQuerySchema,
        body=schemas.TaskToRetrySchema(many=True),
    )(retry_tasks)
    return made


_ETAG = {"ETag": "Changes whenever it does."}

routes = _build_routes()
