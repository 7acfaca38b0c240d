"""Reads request headers: waiting, idempotency, and the headers that jobs take as inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from flask import Request, g

from echelon.controller.api.problems import Refusal
from echelon.controller.engine.base.requests import InvalidInputs, RequestMistake

#: Written by the process that serves, never by clients: headers that came more than once, with all their values.
REPEATED = "X-Echelon-Repeated"
TOKEN = "X-Echelon-Token"
#: Who asks, as the client says; nothing proves it.
USER = "X-Echelon-User"
#: Seconds that a request may wait for a job's end at most.
LONGEST_WAIT = 60
#: Longest Idempotency-Key, in characters.
LONGEST_KEY = 255

#: About the connection, the message or us: never an input of a job.
_NOT_FOR_JOBS = frozenset(
    {
        "host", "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te",
        "trailer", "transfer-encoding", "upgrade", "expect", "content-length", "content-type", "content-encoding",
        "idempotency-key", "if-match", "prefer", TOKEN.lower(), USER.lower(),
        REPEATED.lower(),
    }
)  # fmt: skip
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?')


def read_wait(request: Request) -> int | None:
    """Return the seconds that the client would wait for a job's end, cut to what we grant; None: it would not."""
    for preference in re.split(r"[,;]", request.headers.get("Prefer", "")):
        if found := _WAIT.fullmatch(preference.strip().lower()):
            return min(int(found[1]), LONGEST_WAIT)
    return None


def read_idempotency_key(request: Request) -> str | None:
    """Return the key that makes a submission safe to repeat."""
    _refuse_repeated(request, "Idempotency-Key")
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not (1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        detail = f"write 1 to {LONGEST_KEY} printable ASCII characters"
        pointer = "#/headers/Idempotency-Key"
        raise Refusal(422, f"{pointer}: {detail}", mistakes=[RequestMistake(pointer, detail)])
    return key


def read_user(request: Request) -> str | None:
    """Return the name that a client gives of its user."""
    name = request.headers.get(USER)
    if name is None:
        return None
    if not (1 <= len(name) <= 100 and name.isascii() and name.isprintable() and name.strip() == name):
        detail = "write 1 to 100 printable ASCII characters"
        pointer = f"#/headers/{USER}"
        raise Refusal(422, f"{pointer}: {detail}", mistakes=[RequestMistake(pointer, detail)])
    return name


def read_job_headers(request: Request) -> Mapping[str, Sequence[str]]:
    """Return the headers that a job may take as inputs, each with every value it was sent with."""
    repeated = _read_repeated(request)
    found: dict[str, Sequence[str]] = {}
    for name, value in request.headers:
        lowered = name.lower()
        if lowered in _NOT_FOR_JOBS or (lowered == "authorization" and g.get("authorization_is_ours")):
            continue
        found[name] = repeated.get(lowered, [value])
    return found


@contextmanager
def malformed_if_repeated(request: Request) -> Iterator[None]:
    """Answer 400 instead of 422 if a mistake is about a repeated header: which value is meant is unknown."""
    try:
        yield
    except InvalidInputs as error:
        repeated = _read_repeated(request)
        if any(one.pointer.lower().removeprefix("#/headers/") in repeated for one in error.mistakes):
            raise Refusal(400, str(error), mistakes=error.mistakes) from error
        raise


def _refuse_repeated(request: Request, name: str) -> None:
    if name.lower() in _read_repeated(request):
        raise Refusal(400, f"the header {name} was sent more than once")


def _read_repeated(request: Request) -> dict[str, list[str]]:
    noted = request.headers.get(REPEATED)
    return {} if noted is None else dict(json.loads(noted))
