"""Routes of jobs: submit, find, watch, delete."""

from __future__ import annotations

from functools import partial
from typing import cast

from flask import Response, g, request, url_for

from echelon.controller import shapes
from echelon.controller.api import headers, render, schemas
from echelon.controller.api.config import get_context, get_jobs
from echelon.controller.api.etags import IF_MATCH, act_if_match
from echelon.controller.api.inline import COMPONENTS, SubmissionSchema
from echelon.controller.api.problems import blamed_on
from echelon.controller.api.queries import JobsQuery, PageQuery
from echelon.controller.api.routes import RouteAnswer, Routes
from echelon.controller.api.unserved import Waiting
from echelon.controller.api.waiting import wait_for_end
from echelon.controller.datastore.filters import JobFilter
from echelon.controller.datastore.records import JobView
from echelon.controller.engine.base.requests import Composition, InvalidInputs, RequestMistake, Submission
from echelon.controller.engine.jobs import UnknownType
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue

routes = Routes("jobs", "Submitted runs.")
routes.components |= COMPONENTS

_ETAG = {"ETag": "Changes whenever the job does."}
_JOB = RouteAnswer(shapes.Job, description="The job.", headers=_ETAG)
_WAITS = {"Prefer": "wait=30: answer when the job has ended, or after 30 seconds (60 at most)."}
_KEY = {"Idempotency-Key": "The same key with the same body gives the same job, however often it is sent."}

Body = dict[str, object]


@routes.add_route(
    "POST",
    "/jobs",
    [
        RouteAnswer(
            shapes.Job,
            201,
            "Accepted: it will run, whatever happens to this process.",
            headers={**_ETAG, "Location": "Where the job is found.", "Preference-Applied": "How long was waited."},
        ),
        RouteAnswer(
            shapes.Job,
            description="The Idempotency-Key has been used for this job before.",
            headers={**_ETAG, "Location": "Where the job is found.", "Idempotent-Replayed": "true"},
        ),
    ],
    body=SubmissionSchema,
    examples={
        "a job of the catalogue": {"type": "hello", "input": {"name": "Ada"}},
        "a job composed of task classes": {
            "name": "two greetings",
            "stages": [{"tasks": [{"task_class": "write", "input": {"name": name}} for name in ("Ada", "Grace")]}],
        },
    },
    refuses=[409, 429],
    headers={**_KEY, **_WAITS},
)
def submit_job(body: Body) -> Response:
    """Submit a job of the catalogue, or one composed in the request.

    Inputs of source `http-header` are headers of this request, which no description can name: they depend on the job.
    `GET /api/v1/definitions/jobs/{type}` names them. For an input with `"source": "http-header", "key": "X-Api-Key"`
    send the header `X-Api-Key: VALUE`.
    """
    job_id, created = _submit_composed_job(body) if "stages" in body else _submit_catalogue_job(body)
    response = answer_job(job_id, status=201 if created else 200)
    response.headers["Location"] = url_for("jobs.get_job", job_id=job_id)
    if not created:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _submit_catalogue_job(body: Body) -> tuple[JobId, bool]:
    submission = Submission(
        type=cast(str, body["type"]),
        input=cast(dict[str, JsonValue], body["input"]),
        headers=headers.read_job_headers(request),
        idempotency_key=headers.read_idempotency_key(request),
        request_id=g.request_id,
        user=headers.read_user(request),
        paused=cast(bool, body["paused"]),
        priority=cast("int | None", body["priority"]),
    )
    try:
        with headers.malformed_if_repeated(request):
            return get_jobs().submit_job(submission)
    except UnknownType as error:
        # The address is right, the body is not: 404 would blame the wrong one.
        raise InvalidInputs([RequestMistake("#/type", str(error))]) from error


def _submit_composed_job(body: Body) -> tuple[JobId, bool]:
    composition = Composition(
        name=cast(str, body["name"]),
        stages=body["stages"],
        idempotency_key=headers.read_idempotency_key(request),
        request_id=g.request_id,
        user=headers.read_user(request),
        paused=cast(bool, body["paused"]),
        priority=cast("int | None", body["priority"]),
    )
    try:
        return get_jobs().submit_composition(composition)
    except InvalidInputs as error:
        # A mistake that is not about the stages is about the name.
        named = [RequestMistake("#/name", one.detail) if one.pointer == "#" else one for one in error.mistakes]
        raise InvalidInputs(named) from error


@routes.add_get(
    "/jobs",
    RouteAnswer(shapes.PageOf[shapes.Job], description="Jobs."),
    query=schemas.JobsQuerySchema,
)
def list_jobs(query: JobsQuery) -> Response:
    """List jobs by the time when they were accepted, newest first."""
    times = (query.created_after, query.created_before, query.updated_after)
    wanted = JobFilter(query.state, query.type, query.q, *times, oldest_first=query.order == "oldest")
    with get_jobs().store.read() as reader, blamed_on("#/query/cursor"):
        found = reader.list_jobs(wanted, limit=query.limit, cursor=query.cursor)
    served_queues = get_context().served_queues
    return render.make_page(found, lambda view: _render_job(view, served_queues.explain_waiting(view)))


@routes.add_get("/jobs/<uuid:job_id>", _JOB, refuses=[404], headers=_WAITS)
def get_job(job_id: object) -> Response:
    """Tell how a job stands, with all of its stages."""
    return answer_job(JobId(str(job_id)))


@routes.add_get(
    "/jobs/<uuid:job_id>/events",
    RouteAnswer(shapes.PageOf[shapes.JobEvent], description="The history, in order."),
    query=schemas.PageQuerySchema,
    refuses=[404],
)
def list_events(query: PageQuery, job_id: object) -> Response:
    """Tell a job's history, in order."""
    known = find_job(JobId(str(job_id)))
    with get_jobs().store.read() as reader, blamed_on("#/query/cursor"):
        return render.make_page(
            reader.list_events(known.job_id, limit=query.limit, cursor=query.cursor),
            partial(render.fill_shape, shapes.JobEvent),
        )


@routes.add_route("DELETE", "/jobs/<uuid:job_id>", [_JOB], refuses=[404, 409, 412], headers=IF_MATCH)
def delete_job(job_id: object) -> Response:
    """Remove an ended job, its history and its files."""
    try:
        view = find_job(JobId(str(job_id)))
    except NotFound:
        # An earlier request may have been cut off before it had removed everything.
        get_jobs().delete_job(JobId(str(job_id)))
        raise
    act_if_match(lambda etag: get_jobs().delete_job(view.job_id, etag=etag))
    return render.make_answer(_render_job(view), etag=render.job_etag(view))


def find_job(job_id: JobId) -> JobView:
    """Return a job; NotFound when there is none."""
    view = get_jobs().store.find_job(job_id)
    if view is None:
        raise NotFound(f"there is no job {job_id}")
    return view


def check_stage(job: JobView, stage: int) -> None:
    """Raise NotFound when a job has no such stage."""
    if stage >= len(job.stages):
        raise NotFound(f"job {job.job_id} has no stage {stage}: they are numbered from 0 to {len(job.stages) - 1}")


def answer_job(job_id: JobId, *, status: int = 200, more: shapes.ChangeResult | None = None) -> Response:
    """Return the job, after the wait that the client asked for; `more` stands beside it."""
    wait = headers.read_wait(request)
    if wait and not wait_for_end(job_id, wait):
        wait = None
    view = find_job(job_id)
    waiting = get_context().served_queues.explain_waiting(view)
    body = {**_render_job(view, waiting), **(more or {})}
    response = render.make_answer(body, status=status, etag=render.job_etag(view, waiting))
    if wait is not None:
        response.headers["Preference-Applied"] = f"wait={wait}"
    return response


def _render_job(view: JobView, waiting: Waiting | None = None) -> shapes.Job:
    return render.render_job(view, get_jobs().masked_input(view), waiting)
