"""Clients that submit, cancel and look, each on a thread; every request and its answer is written down."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from echelon.controller.client import Client, ServerFault
from echelon.shared.errors import Conflict, EchelonError, NotFound, Unavailable
from tests.simulation.history import Asked
from tests.system.workload import Plan

_ENDED = ("COMPLETED", "FAILED", "CANCELLED")
#: Jobs that one person follows at the same time.
_AT_ONCE = 3


@dataclass
class Followed:
    """A job that was accepted."""

    job_id: str
    plan: Plan
    count: int
    accepted_at: float
    cancel_at: float | None
    #: Tasks that had ended when it was looked at last.
    done: int = 0
    #: A cancel was asked for; it may have happened.
    cancelled: bool = False
    state: str = ""


@dataclass
class Diary:
    """All requests and answers of a run."""

    asked: list[Asked]
    jobs: list[Followed]
    complaints: list[str]


def _submit(plan: Plan, count: int, key: str, client: Client) -> str:
    headers = {"X-Token": "c4n4ry"}
    return client.submit_job(plan.type, input={"count": count}, headers=headers, idempotency_key=key)["job_id"]


class Person:
    """One client: it goes to any controller, and asks again until it is answered."""

    def __init__(self, seed: str, urls: list[str], plans: list[Plan], diary: Diary, *, widest: int = 200) -> None:
        self._rng = random.Random(seed)
        self._clients = [Client(url, timeout=8.0) for url in urls]
        self._plans = plans
        self._diary = diary
        self._widest = widest
        self._open: list[Followed] = []
        self._quiet = threading.Event()

    def run(self, leave: threading.Event, *, deadline: Callable[[], float]) -> None:
        """Submit until told to leave, then follow what is open to its end; `deadline` is of the monotonic clock."""
        try:
            while not leave.is_set() or (self._open and time.monotonic() < deadline()):
                if not leave.is_set() and len(self._open) < _AT_ONCE:
                    self._submit(leave)
                self._look()
                self._quiet.wait(0.2)
        finally:
            for client in self._clients:
                client.close()

    def _submit(self, leave: threading.Event) -> None:
        plan, key = self._rng.choice(self._plans), str(uuid.UUID(int=self._rng.getrandbits(128)))
        most = self._rng.choice((0, 10, 30, self._widest)) if plan.wide else 6
        count = self._rng.randint(0, most)
        cancel = self._rng.uniform(0.0, 6.0) if self._rng.random() < 0.2 else None
        # One in ten asks twice, as after a lost answer.
        times = 2 if self._rng.random() < 0.1 else 1
        job_id = None
        for _ in range(times):
            job_id = self._answered("submit", key, partial(_submit, plan, count, key), leave)
        if job_id is not None:
            now = time.monotonic()
            self._open.append(Followed(job_id, plan, count, now, None if cancel is None else now + cancel))
            self._diary.jobs.append(self._open[-1])

    def _answered(self, what: str, key: str, ask: Callable[[Client], str], leave: threading.Event) -> str | None:
        """Ask any controller until one answers; None when the run is over before."""
        over: float | None = None
        while over is None or time.monotonic() < over:
            begun = time.time()
            answer, found = "info", None
            try:
                found, answer = ask(self._rng.choice(self._clients)), "ok"
            except Unavailable:
                self._quiet.wait(0.2)
            except ServerFault as error:
                self._diary.complaints.append(f"I10 truthful API: {what}: {error}")
                self._quiet.wait(0.2)
            self._diary.asked.append(Asked(what, answer, begun, time.time(), found, key))
            if found is not None:
                return found
            if over is None and leave.is_set():
                over = time.monotonic() + 30.0
        return None

    def _look(self) -> None:
        for job in list(self._open):
            client = self._rng.choice(self._clients)
            try:
                if job.cancel_at is not None and time.monotonic() >= job.cancel_at:
                    self._cancel(client, job)
                self._note(job, client)
            except Unavailable:
                continue
            except NotFound:
                self._diary.complaints.append(f"I10 truthful API: job {job.job_id} was accepted and is not found")
                self._open.remove(job)
            except (ServerFault, EchelonError) as error:
                self._diary.complaints.append(f"I10 truthful API: job {job.job_id}: {error}")

    def _cancel(self, client: Client, job: Followed) -> None:
        begun, job.cancelled = time.time(), True
        answer = "info"
        try:
            client.cancel_job(job.job_id)
            answer, job.cancel_at = "ok", None
        except Conflict:
            answer, job.cancel_at = "refused", None
        finally:
            self._diary.asked.append(Asked("cancel", answer, begun, time.time(), job.job_id))

    def _note(self, job: Followed, client: Client) -> None:
        view = client.get_job(job.job_id)
        # A job that is not retried never does less than it did.
        done = sum(stage["counts"]["COMPLETED"] + stage["counts"]["FAILED"] for stage in view["stages"])
        if done < job.done:
            self._diary.complaints.append(
                f"I10 truthful API: job {job.job_id} had {job.done} tasks done and has {done}"
            )
        job.done, job.state = done, view["state"]
        if job.state in _ENDED:
            self._open.remove(job)
