"""Errors as `application/problem+json` (RFC 9457): one table from exceptions to statuses, and the handlers that use it.

Internal causes go to the log only: a client gets an id to quote.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus

import msgspec
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestedRangeNotSatisfiable
from werkzeug.http import dump_header

from echelon.controller import shapes
from echelon.controller.engine.base.requests import InvalidInputs, RequestMistake, TooManyJobs
from echelon.controller.engine.upkeep.open_jobs import COUNTED_EVERY
from echelon.shared.errors import Conflict, EchelonError, InvalidInput, NotFound, PreconditionFailed, Unavailable

CONTENT_TYPE = "application/problem+json"
#: Seconds after which a client may try again when something that we lean on is away.
RETRY_AFTER = 2

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is answered with a problem, raised by the interface itself."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        mistakes: Sequence[RequestMistake] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.mistakes = tuple(mistakes)
        self.headers = dict(headers or {})


def refuse_value(pointer: str, detail: str) -> Refusal:
    """Return the refusal of one wrong part of a request."""
    return Refusal(422, f"{pointer}: {detail}", mistakes=[RequestMistake(pointer, detail)])


@contextmanager
def blamed_on(pointer: str) -> Iterator[None]:
    """Say of an InvalidInput raised within which part of the request it is about."""
    try:
        yield
    except InvalidInput as error:
        raise refuse_value(pointer, str(error)) from error


def make_problem(
    status: int,
    detail: str,
    *,
    mistakes: Sequence[RequestMistake] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Response:
    """Return a problem document."""
    body = shapes.Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=g.get("request_id"),
    )
    if mistakes:
        body["errors"] = [shapes.ProblemPart(pointer=one.pointer, detail=one.detail) for one in mistakes]
    response = Response(msgspec.json.encode({**body, **(more or {})}), status=status, content_type=CONTENT_TYPE)
    response.headers.update(headers or {})
    return response


def register_handlers(app: Flask) -> None:
    """Answer every error of an application with a problem."""
    app.register_error_handler(Refusal, _handle_refusal)
    app.register_error_handler(EchelonError, _handle_echelon_error)
    app.register_error_handler(HTTPException, _handle_http_error)
    app.register_error_handler(Exception, _handle_unexpected)


def _handle_refusal(error: Refusal) -> Response:
    return make_problem(error.status, error.detail, mistakes=error.mistakes, headers=error.headers)


def _handle_echelon_error(error: EchelonError) -> Response:
    match error:
        case InvalidInputs():
            return make_problem(422, str(error), mistakes=error.mistakes)
        case InvalidInput():
            return make_problem(422, str(error))
        case NotFound():
            return make_problem(404, str(error))
        case Conflict():
            return make_problem(409, str(error))
        case PreconditionFailed():
            return make_problem(412, str(error))
        case TooManyJobs():
            return make_problem(429, str(error), headers={"Retry-After": f"{COUNTED_EVERY:.0f}"})
        case Unavailable():
            # repr: the text may hold a path that a task has chosen.
            _log.warning("request %s is answered with 503: %r", g.get("request_id"), str(error))
            return make_problem(503, str(error), headers={"Retry-After": str(RETRY_AFTER)})
    return _handle_unexpected(error)


def _handle_http_error(error: HTTPException) -> Response:
    """Answer what Flask and werkzeug refuse, with the headers that belong to it."""
    headers: dict[str, str] = {}
    status, detail = error.code or 500, error.description or ""
    match error:
        case MethodNotAllowed(valid_methods=methods):
            headers["Allow"] = dump_header(sorted(methods or ()))
            detail = f"{request.method} is not possible here, only {headers['Allow']}"
        case RequestedRangeNotSatisfiable(length=length):
            headers["Content-Range"] = f"bytes */{'*' if length is None else length}"
        case _ if status == 404:
            detail = "there is nothing at this address; ids are whole UUIDs, /openapi.json lists what there is"
        case _ if status == 413:
            detail = "the body is too large"
    return make_problem(status, detail, headers=headers)


def _handle_unexpected(error: Exception) -> Response:
    # repr keeps control characters of the path out of the log.
    _log.error("request %s failed: %s %r", g.get("request_id"), request.method, request.path, exc_info=error)
    return make_problem(500, f"Echelon failed; its log tells more about request {g.get('request_id')}")
