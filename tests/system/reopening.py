"""A client whose jobs all fail: it opens them again, they fail again, and it deletes them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from echelon.controller.client import Client, ServerFault
from echelon.shared.errors import Conflict, NotFound, Unavailable
from tests.simulation.history import Asked

_ENDED = ("COMPLETED", "FAILED", "CANCELLED")


class Reopener:
    """Works through one job after the other, asking any controller until it is answered."""

    def __init__(self, urls: list[str]) -> None:
        self._clients = [Client(url, timeout=8.0) for url in urls]
        self._quiet = threading.Event()
        self._turn = 0
        #: Requests about the jobs that are not deleted.
        self.asked: list[Asked] = []
        self.retried = 0
        self.deleted: list[str] = []
        self.complaints: list[str] = []

    def run(self, leave: threading.Event, *, deadline: Callable[[], float]) -> None:
        """Go on until told to leave and the last job is gone, at most until a moment of the monotonic clock."""
        try:
            while not leave.is_set():
                self._one(deadline)
        except TimeoutError as error:
            self.complaints.append(f"I10 truthful API: nobody could {error} in all the time")
        finally:
            for client in self._clients:
                client.close()

    def leavings(self, volume: Path) -> Iterator[str]:
        """Yield what is left of jobs that were deleted."""
        yield from self.complaints
        for job_id in self.deleted:
            if (volume / "jobs" / job_id).exists():
                yield f"I9 no leaks: the folder of the deleted job {job_id} is still there"

    def _one(self, deadline: Callable[[], float]) -> None:
        key, begun = str(uuid.uuid4()), time.time()
        job_id = self._ask(
            "submit", lambda client: client.submit_job("doomed", idempotency_key=key)["job_id"], deadline
        )
        self.asked.append(Asked("submit", "ok", begun, time.time(), job_id, key))
        self._ended(job_id, deadline)
        self._ask("retry", partial(_retry, job_id), deadline)
        self.retried += 1
        self._ended(job_id, deadline)
        self._ask("delete", partial(_delete, job_id), deadline)
        self.deleted.append(job_id)
        self.asked.pop()

    def _ended(self, job_id: str, deadline: Callable[[], float]) -> None:
        def ended(client: Client) -> str:
            state = client.get_job(job_id, wait=1.0)["state"]
            if state not in _ENDED:
                raise Unavailable
            return state

        self._ask("see the end", ended, deadline)

    def _ask(self, what: str, ask: Callable[[Client], str], deadline: Callable[[], float]) -> str:
        """Return the answer of the first controller that has one. A failpoint that raises makes a 500, once."""
        while time.monotonic() < deadline():
            self._turn += 1
            try:
                return ask(self._clients[self._turn % len(self._clients)])
            except (Unavailable, ServerFault):
                self._quiet.wait(0.1)
        raise TimeoutError(what)


def _retry(job_id: str, client: Client) -> str:
    try:
        return client.retry_job(job_id)["state"]
    except Conflict:
        # An earlier request has done it, and its answer was lost.
        return "RUNNING"


def _delete(job_id: str, client: Client) -> str:
    try:
        return client.delete_job(job_id)["state"]
    except NotFound:
        return "gone"
