"""Keeps threads free for short answers: only so many requests at once may wait, follow a log or send much.

A client that follows a log, or that takes a large file and does not read it, holds a thread for as long as it likes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final

#: An answer of more bytes, or of an unknown number, may wait for its client: no buffer of the kernel takes all of it.
_MUCH: Final = 256 << 10
#: Seconds after which a client that was refused may ask again.
_AGAIN: Final = 5

Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]


class LongAnswers:
    """The requests of one process that may keep their threads for long; each thread has one request at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._threads: set[int] = set()

    def admit(self) -> bool:
        """Return whether the request of this thread may take long; if so, `forget` has to follow."""
        with self._lock:
            if len(self._threads) < self._most:
                self._threads.add(threading.get_ident())
            return threading.get_ident() in self._threads

    def forget(self) -> None:
        """Forget the request of this thread: it is over."""
        with self._lock:
            self._threads.discard(threading.get_ident())

    def answer(
        self,
        application: Callable[[dict[str, Any], StartResponse], Iterable[bytes]],
        environ: dict[str, Any],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Return the application's answer; 503 in place of a long one if there are too many of those."""
        begun: list[tuple[str, Headers]] = []
        answer = application(environ, lambda status, headers, *_: begun.append((status, headers)))
        status, headers = begun[-1]
        if environ["REQUEST_METHOD"] != "HEAD" and _is_long(status, headers) and not self.admit():
            close = getattr(answer, "close", None)
            if close is not None:
                close()
            status, headers, answer = _refuse()
        start_response(status, headers)
        return answer


def _is_long(status: str, headers: Headers) -> bool:
    """Tell whether a client that does not read could keep the thread that answers."""
    if status.startswith(("204", "304")):
        return False
    length = next((value for name, value in headers if name.lower() == "content-length"), "")
    return not length.isdigit() or int(length) > _MUCH


def _refuse() -> tuple[str, Headers, list[bytes]]:
    detail = "too many requests follow logs, wait or take large answers at this moment"
    status, headers, body = make_problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
    return status, [*headers, ("Retry-After", str(_AGAIN))], [body]


def make_problem(status: HTTPStatus, detail: str) -> tuple[str, Headers, bytes]:
    """Return the status line, the headers and the body of a problem document that the application does not make."""
    problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    body = json.dumps(problem).encode()
    headers = [
        ("Content-Type", "application/problem+json"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Length", str(len(body))),
    ]
    return f"{status:d} {status.phrase}", headers, body
