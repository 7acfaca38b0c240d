"""Exceptions made from a controller's problem documents (RFC 9457).

404 becomes `NotFound`, 409 `Conflict`, 412 `PreconditionFailed`, 429 and 503 `Unavailable` of `echelon.shared.errors`.
The other errors are defined here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echelon.shared.errors import Conflict, EchelonError, InvalidInput, NotFound, PreconditionFailed, Unavailable


@dataclass(frozen=True, slots=True)
class RequestMistake:
    """One thing that is wrong with a request."""

    #: JSON pointer as a URI fragment, e.g. "#/input/url"; "#/headers/Authorization" for a header.
    pointer: str
    detail: str


class Unreachable(Unavailable):
    """No controller answers there."""


class Ambiguous(Conflict):
    """More than one id begins like this; see `candidates`."""

    def __init__(self, message: str, candidates: Sequence[str]) -> None:
        super().__init__(message)
        #: The whole ids, at most 10.
        self.candidates = tuple(candidates)


class NotAllowed(EchelonError):
    """The token is missing or wrong, or the host name is not one of the controller's."""


class ServerFault(EchelonError):
    """The controller failed, or a server that is not a controller answered."""


class Rejected(InvalidInput):
    """The request is wrong; see `mistakes`."""

    def __init__(self, message: str, mistakes: Sequence[RequestMistake] = ()) -> None:
        super().__init__(message)
        #: Each wrong part; empty if the request as a whole is wrong.
        self.mistakes = tuple(mistakes)


def from_problem(status: int, problem: Mapping[str, object]) -> EchelonError:
    """Return the exception for a problem document."""
    detail = str(problem.get("detail") or problem.get("title") or f"the controller answered with status {status}")
    if status == 404:
        return NotFound(detail)
    if status == 409:
        return Conflict(detail)
    if status == 412:
        return PreconditionFailed(detail)
    if status in (401, 403, 421):
        return NotAllowed(detail)
    if status in (429, 503):
        return Unavailable(detail)
    if 400 <= status < 500:
        return Rejected(detail, _read_mistakes(problem.get("errors")))
    return ServerFault(detail)


def _read_mistakes(errors: object) -> list[RequestMistake]:
    if not isinstance(errors, list):
        return []
    return [
        RequestMistake(str(one.get("pointer", "#")), str(one.get("detail", "")))
        for one in errors
        if isinstance(one, dict)
    ]
