"""Routes of jobs: submit, find, watch, delete."""

from __future__ import annotations

from functools import partial
from typing import cast

from flask import Response, g, request, url_for

from echelon.controller import shapes
from echelon.controller.api import headers, render, schemas
from echelon.controller.api.config import context, jobs
from echelon.controller.api.etags import IF_MATCH, guarded
from echelon.controller.api.inline import SubmissionSchema
from echelon.controller.api.problems import blamed_on
from echelon.controller.api.queries import JobsQuery, PageQuery
from echelon.controller.api.routes import Answer, Routes
from echelon.controller.api.unserved import Waiting
from echelon.controller.api.waiting import until_ended
from echelon.controller.core.states import State
from echelon.controller.datastore.records import JobFilter, JobView
from echelon.controller.engine.base.requests import Composition, InvalidInputs, Mistake, Submission
from echelon.controller.engine.jobs import UnknownType
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue

routes = Routes("jobs", "Submitted runs.")

_ETAG = {"ETag": "Changes whenever the job does."}
_JOB = Answer(shapes.Job, description="The job.", headers=_ETAG)
_WAITS = {"Prefer": "wait=30: answer when the job has ended, or after 30 seconds (60 at most)."}
_KEY = {"Idempotency-Key": "The same key with the same body gives the same job, however often it is sent."}

Body = dict[str, object]


@routes.route(
    "POST",
    "/jobs",
    [
        Answer(
            shapes.Job,
            201,
            "Accepted: it will run, whatever happens to this process.",
            headers={**_ETAG, "Location": "Where the job is found.", "Preference-Applied": "How long was waited."},
        ),
        Answer(
            shapes.Job,
            description="The Idempotency-Key has been used for this job before.",
            headers={**_ETAG, "Location": "Where the job is found.", "Idempotent-Replayed": "true"},
        ),
    ],
    body=SubmissionSchema,
    refuses=[409, 429],
    headers={**_KEY, **_WAITS},
)
def submit_job(body: Body) -> Response:
    """Submit a job of the catalogue (which says what headers it takes as inputs), or one composed in the request."""
    job_id, created = _composed(body) if "stages" in body else _submitted(body)
    response = answer(job_id, status=201 if created else 200)
    response.headers["Location"] = url_for("jobs.get_job", job_id=job_id)
    if not created:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _submitted(body: Body) -> tuple[JobId, bool]:
    submission = Submission(
        type=cast(str, body["type"]),
        input=cast(dict[str, JsonValue], body["input"]),
        headers=headers.for_job(request),
        idempotency_key=headers.idempotency_key(request),
        request_id=g.request_id,
        paused=cast(bool, body["paused"]),
    )
    try:
        with headers.malformed_if_repeated(request):
            return jobs().submit(submission)
    except UnknownType as error:
        # The address is right, the body is not: 404 would blame the wrong one.
        raise InvalidInputs([Mistake("#/type", str(error))]) from error


def _composed(body: Body) -> tuple[JobId, bool]:
    composition = Composition(
        name=cast(str, body["name"]),
        stages=body["stages"],
        idempotency_key=headers.idempotency_key(request),
        request_id=g.request_id,
        paused=cast(bool, body["paused"]),
    )
    try:
        return jobs().compose(composition)
    except InvalidInputs as error:
        # What is not about the stages is about what the job is called.
        named = [Mistake("#/name", one.detail) if one.pointer == "#" else one for one in error.mistakes]
        raise InvalidInputs(named) from error


@routes.get(
    "/jobs",
    Answer(shapes.PageOf[shapes.Job], description="Jobs, newest first."),
    query=schemas.JobsQuerySchema,
)
def list_jobs(query: JobsQuery) -> Response:
    """List jobs, newest first."""
    state = State(query.state) if query.state else None
    with jobs().store.read() as reader, blamed_on("#/query/cursor"):
        found = reader.list_jobs(JobFilter(state, query.type, query.q), limit=query.limit, cursor=query.cursor)
    listeners = context().listeners
    return render.page(found, lambda view: _rendered(view, listeners.waiting(view)))


@routes.get("/jobs/<uuid:job_id>", _JOB, refuses=[404], headers=_WAITS)
def get_job(job_id: object) -> Response:
    """Tell how a job stands, with all of its stages."""
    return answer(JobId(str(job_id)))


@routes.get(
    "/jobs/<uuid:job_id>/events",
    Answer(shapes.PageOf[shapes.JobEvent], description="The history, in order."),
    query=schemas.PageQuerySchema,
    refuses=[404],
)
def list_events(query: PageQuery, job_id: object) -> Response:
    """Tell a job's history, in order."""
    known = view_of(JobId(str(job_id)))
    with jobs().store.read() as reader, blamed_on("#/query/cursor"):
        return render.page(
            reader.list_events(known.job_id, limit=query.limit, cursor=query.cursor),
            partial(render.fill, shapes.JobEvent),
        )


@routes.route("DELETE", "/jobs/<uuid:job_id>", [_JOB], refuses=[404, 409, 412], headers=IF_MATCH)
def delete_job(job_id: object) -> Response:
    """Remove an ended job, its history and its files."""
    try:
        view = view_of(JobId(str(job_id)))
    except NotFound:
        # An earlier request may have been cut off before it had removed everything.
        jobs().delete(JobId(str(job_id)))
        raise
    guarded(lambda etag: jobs().delete(view.job_id, etag=etag))
    return render.answer(_rendered(view), etag=render.job_etag(view))


def view_of(job_id: JobId) -> JobView:
    """Return a job; NotFound when there is none."""
    view = jobs().store.find_job(job_id)
    if view is None:
        raise NotFound(f"there is no job {job_id}")
    return view


def answer(job_id: JobId, *, status: int = 200, more: shapes.ChangeResult | None = None) -> Response:
    """Return the job, after the wait that the client asked for; `more` stands beside it."""
    wait = headers.wanted_wait(request)
    if wait:
        until_ended(job_id, wait)
    view = view_of(job_id)
    waiting = context().listeners.waiting(view)
    body = {**_rendered(view, waiting), **(more or {})}
    response = render.answer(body, status=status, etag=render.job_etag(view, waiting))
    if wait is not None:
        response.headers["Preference-Applied"] = f"wait={wait}"
    return response


def _rendered(view: JobView, waiting: Waiting | None = None) -> shapes.Job:
    return render.job(view, jobs().masked_input(view), waiting)
