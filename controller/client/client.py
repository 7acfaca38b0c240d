"""`Client`: one method per thing that the REST interface can do. One client per thread."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast
from urllib.parse import quote

from echelon.controller.catalogue_shapes import CatalogueJob, Definitions
from echelon.controller.client.control import API, LiveControl, how_to_begin, job_path, task_path
from echelon.controller.client.errors import Ambiguous, from_problem
from echelon.controller.client.transport import Transport
from echelon.controller.shapes import (
    Job,
    JobArtefact,
    JobArtefactPage,
    JobErrors,
    JobEvent,
    MatchingIds,
    PrunedJobs,
    Queue,
    Readiness,
    Task,
    TaskWithAttempts,
    Worker,
)
from echelon.shared.errors import NotFound, Unavailable
from echelon.shared.messages import JsonValue

_PAGE = 500
#: Seconds of one request of `wait`.
_WAIT = 60.0
#: Seconds that a controller may be away during a `wait`, and seconds before it is asked again.
_AWAY, _AGAIN = 60.0, 0.5


class Client(LiveControl):
    """A client of one controller.

    Every method may raise `Unreachable`, `NotAllowed`, `ServerFault` and `Unavailable`. Ids are whole UUIDs; an unknown
    one raises `NotFound`. `find_id`, `find_job` and `find_task` complete abbreviated ids.
    """

    def __init__(self, url: str, *, token: str | None = None, user: str | None = None, timeout: float = 30.0) -> None:
        """Set the address, e.g. "http://127.0.0.1:8080", and the seconds to wait until each answer begins.

        `user` is the name under which the history and `why` speak of these requests.
        """
        self.url = url.rstrip("/").removesuffix(API)
        self._transport = Transport(self.url, token=token, user=user, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # --- jobs

    def submit_job(
        self,
        job_type: str,
        *,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
        paused: bool = False,
        priority: int | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Job:
        """Submit a job of the catalogue and return it.

        `headers` carry inputs of the source http-header. `wait` is the number of seconds to wait for the job's end, at
        most 60. With `paused`, the job starts when it is resumed. `priority` is from 0 to 9, higher first. The request
        carries an idempotency key (yours or a new one), and is repeated once if its answer is lost.

        Raises `Rejected` with its mistakes (an unknown type is one), `Conflict` if the key belongs to another request,
        and `Unavailable` if the controller has as many open jobs as it may.
        """
        body: dict[str, object] = {"type": job_type, "input": input or {}, **how_to_begin(paused, priority)}
        return cast(Job, self._transport.post_keyed(f"{API}/jobs", body, headers or {}, idempotency_key, wait))

    def get_job(self, job_id: str, *, wait: float | None = None) -> Job:
        """Return a job; with `wait`, when it has ended or after that many seconds, at most 60."""
        return cast(Job, self._transport.get_json(job_path(job_id), wait=wait))

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Return a job (given as such or by its id) when it has ended, or as it is after `timeout` seconds.

        A controller that is away for less than a minute, such as during its restart, is asked again.
        """
        job_id = job if isinstance(job, str) else job["job_id"]
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        heard = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                found = self.get_job(job_id, wait=min(_WAIT, max(0.0, end - began)))
            except Unavailable:
                now = time.monotonic()
                if now - heard > _AWAY or now >= end:
                    raise
                time.sleep(min(_AGAIN, max(0.0, end - now)))
                continue
            heard = time.monotonic()
            if found["state"] not in ("PENDING", "RUNNING") or heard >= end:
                return found
            if heard - began < _AGAIN:
                # A controller that stops answers at once.
                time.sleep(min(_AGAIN, max(0.0, end - heard)))

    def list_jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the word of the interface
        q: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        updated_after: datetime | str | None = None,
        order: Literal["newest", "oldest"] | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Yield jobs, newest first, at most `limit`; `q` is text in the id, the type or an input value."""
        wanted = {"state": state, "type": type, "q": q, "order": order}
        times = {"created_after": created_after, "created_before": created_before, "updated_after": updated_after}
        wanted |= {name: _as_text(time) for name, time in times.items()}
        return cast(Iterator[Job], self._iterate_pages(f"{API}/jobs", wanted, limit))

    def delete_job(self, job_id: str) -> Job:
        """Delete an ended job and its files; return it as it was. Raises `Conflict` if it has not ended."""
        return cast(Job, self._transport.delete_json(job_path(job_id)))

    def prune_jobs(
        self,
        older_than: float,
        *,
        type: str | None = None,  # noqa: A002 - the word of the interface
        dry_run: bool = False,
    ) -> PrunedJobs:
        """Remove all jobs that ended more than `older_than` seconds ago, or measure them; return the sums."""
        sums = PrunedJobs(jobs=0, bytes=0, next=None)
        body = {"older_than": older_than, "type": type, "dry_run": dry_run, "after": None}
        while True:
            part = cast(PrunedJobs, self._transport.post_json(f"{API}/prune", body))
            sums["jobs"] += part["jobs"]
            sums["bytes"] += part["bytes"]
            if part["next"] is None:
                return sums
            body["after"] = part["next"]

    def list_events(self, job_id: str, *, limit: int | None = None) -> Iterator[JobEvent]:
        """Yield a job's history, in order."""
        return cast(Iterator[JobEvent], self._iterate_pages(f"{job_path(job_id)}/events", {}, limit))

    # --- tasks

    def list_tasks(
        self,
        job_id: str,
        *,
        stage: int | None = None,
        index: int | None = None,
        state: str | Sequence[str] | None = None,
        run: int | None = None,
        limit: int | None = None,
    ) -> Iterator[Task]:
        """Yield a job's tasks by stage and index, each stage's spawn task first; `run`: of an earlier run."""
        wanted = {"stage": stage, "index": index, "state": state, "run": run}
        return cast(Iterator[Task], self._iterate_pages(f"{job_path(job_id)}/tasks", wanted, limit))

    def list_errors(self, job_id: str) -> JobErrors:
        """Return why tasks of a job are FAILED, errors of the same kind together."""
        return cast(JobErrors, self._transport.get_json(f"{job_path(job_id)}/errors"))

    def get_task(self, task_id: str) -> TaskWithAttempts:
        """Return a task with its ended attempts."""
        return cast(TaskWithAttempts, self._transport.get_json(task_path(task_id)))

    # --- logs

    def read_log(self, job_id: str, *, follow: bool = False, since: datetime | str | None = None) -> Iterator[str]:
        """Yield the output of all tasks of a job in pieces of any length; with `follow`, until the job has ended.

        `since` leaves out attempts that have printed nothing since that time.
        """
        wanted = {"follow": int(follow) or None, "since": _as_text(since)}
        return self._transport.stream_text(f"{job_path(job_id)}/log", wanted)

    def read_task_log(
        self, task_id: str, *, stream: str | None = None, attempt: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Yield the output of a task in pieces of any length.

        `stream` is "stdout", "stderr" or None for one after the other. `attempt` counts from 1; None is the last one.
        With `follow`, the output continues until the task has ended.
        """
        wanted = {"stream": stream, "attempt": attempt, "follow": int(follow) or None}
        return self._transport.stream_text(f"{task_path(task_id)}/log", wanted)

    # --- artefacts

    def list_artefacts(self, job_id: str, *, limit: int | None = None) -> Iterator[JobArtefact]:
        """Yield the files that a job left, by path."""
        return cast(Iterator[JobArtefact], self._iterate_pages(f"{job_path(job_id)}/artefacts", {}, limit))

    def list_artefact_pages(self, job_id: str) -> Iterator[JobArtefactPage]:
        """Yield the files that a job left as pages, which also count what is no plain file and is in no list."""
        return cast(Iterator[JobArtefactPage], self._fetch_pages(f"{job_path(job_id)}/artefacts", {}, None))

    def read_artefact(self, job_id: str, path: str) -> Iterator[bytes]:
        """Yield the content of an artefact in pieces of any length."""
        return self._transport.stream_bytes(f"{job_path(job_id)}/artefacts/{quote(path)}")

    def download_artefact(self, job_id: str, path: str, target: Path | str) -> int:
        """Save an artefact as the file `target`, whole or not at all; return its size in bytes."""
        return self._transport.save_file(f"{job_path(job_id)}/artefacts/{quote(path)}", Path(target))

    def read_zip(self, job_id: str) -> Iterator[bytes]:
        """Yield a zip archive of all artefacts in pieces of any length."""
        return self._transport.stream_bytes(f"{job_path(job_id)}/artefacts.zip")

    def download_zip(self, job_id: str, target: Path | str) -> int:
        """Save all artefacts as the zip file `target`, whole or not at all; return its size in bytes."""
        return self._transport.save_file(f"{job_path(job_id)}/artefacts.zip", Path(target))

    # --- the engine

    def get_definitions(self) -> Definitions:
        """Return the catalogue in force."""
        return cast(Definitions, self._transport.get_json(f"{API}/definitions"))

    def get_definition(self, job_type: str) -> CatalogueJob:
        """Return one job of the catalogue in force."""
        return cast(CatalogueJob, self._transport.get_json(f"{API}/definitions/jobs/{quote(job_type, safe='')}"))

    def list_workers(self) -> list[Worker]:
        """Return all known workers."""
        return list(cast(Iterator[Worker], self._iterate_pages(f"{API}/workers", {}, None)))

    def drain_worker(self, worker_id: str) -> Worker:
        """Let a worker take no more tasks, and end after the running ones. Raises `Conflict` if it is not reached."""
        return cast(Worker, self._transport.post_json(f"{API}/workers/{quote(worker_id, safe='')}/drain", None))

    def list_queues(self) -> list[Queue]:
        """Return the queues in which something waits or runs."""
        return list(cast(Iterator[Queue], self._iterate_pages(f"{API}/queues", {}, None)))

    def get_health(self) -> Readiness:
        """Return whether the controller is ready, and the state of each system it depends on."""
        answer = self._transport.get_json("/readyz", also=(503,))
        if "parts" not in answer:
            raise from_problem(503, answer)
        return cast(Readiness, answer)

    # --- abbreviated ids

    def find_id(self, prefix: str) -> tuple[str, str]:
        """Return ("job" or "task", whole id) for an abbreviated id. Raises `NotFound` or `Ambiguous`."""
        found = self._fetch_matching(prefix)
        known = [("job", one) for one in found["jobs"]] + [("task", one) for one in found["tasks"]]
        _pick_one(prefix, [whole for _, whole in known], "job or task")
        return known[0]

    def find_job(self, prefix: str) -> str:
        """Return the whole id of a job. Raises `NotFound`, or `Ambiguous` if several match."""
        return _pick_one(prefix, self._fetch_matching(prefix)["jobs"], "job")

    def find_task(self, prefix: str) -> str:
        """Return the whole id of a task. Raises `NotFound`, or `Ambiguous` if several match."""
        return _pick_one(prefix, self._fetch_matching(prefix)["tasks"], "task")

    def _fetch_matching(self, prefix: str) -> MatchingIds:
        return cast(MatchingIds, self._transport.get_json(f"{API}/ids", {"prefix": prefix}))

    def _iterate_pages(self, path: str, wanted: Mapping[str, object], limit: int | None) -> Iterator[object]:
        for page in self._fetch_pages(path, wanted, limit):
            yield from cast(list[object], page["items"])

    def _fetch_pages(
        self, path: str, wanted: Mapping[str, object], limit: int | None
    ) -> Iterator[Mapping[str, object]]:
        cursor: object = None
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._transport.get_json(path, {**wanted, "limit": size, "cursor": cursor})
            yield page
            cursor = page["next_cursor"]
            if cursor is None:
                return
            left = None if left is None else left - len(cast(list[object], page["items"]))


def _as_text(time: datetime | str | None) -> str | None:
    """Return a time as the interface takes it; one without a zone is local, as everywhere in Python."""
    return time.astimezone(UTC).isoformat() if isinstance(time, datetime) else time


def _pick_one(prefix: str, found: list[str], what: str) -> str:
    if not found:
        raise NotFound(f"no {what} has an id that begins with {prefix!r}")
    if len(found) > 1:
        raise Ambiguous(f"{prefix!r} is the beginning of more than one id: give more characters", found)
    return found[0]
