"""Waits for a job's end, in steps short enough to notice that the process stops or that the client has left."""

from __future__ import annotations

import select
import socket
import time

from flask import request

from echelon.controller.api.config import get_context
from echelon.shared.ids import JobId

#: Put into a request by the process that serves: called before a wait, for others to compute meanwhile; tells whether
#: the request may wait.
WAITS = "echelon.waits"
_STEP = 1.0


def wait_for_end(job_id: JobId, seconds: float) -> bool:
    """Return when a job has ended, the seconds are over, the process stops or the client has left.

    Return False at once if too many requests wait already.
    """
    here, connection = get_context(), client_socket()
    if not request.environ.get(WAITS, lambda: True)():
        return False
    deadline = time.monotonic() + seconds
    while not here.settings.stopping.is_set() and not has_left(connection):
        left = deadline - time.monotonic()
        if left <= 0 or here.jobs.wait_for_end(job_id, min(left, _STEP)):
            break
    return True


def client_socket() -> socket.socket | None:
    """Return the connection of the present request, where the server tells."""
    found = request.environ.get("gunicorn.socket")
    return found if isinstance(found, socket.socket) else None


def has_left(connection: socket.socket | None) -> bool:
    """Tell whether the client has closed its side and would not read the answer."""
    if connection is None:
        return False
    try:
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
