"""Live control, as methods of the client: hold, end, repeat, wave through and add work while a job lives.

Whoever gives the `etag` that a job, a stage or a task was read with changes it only if it is still as it was; otherwise
`PreconditionFailed` is raised and nothing has happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast
from urllib.parse import quote

from echelon.controller.client.transport import Transport
from echelon.controller.shapes import AddedTasks, ChangedJob, ChangedStage, ChangedTask, Job, RetriedTasks, Stage, Why
from echelon.shared.messages import JsonValue

API = "/api/v1"

Verb = Literal["pause", "resume", "cancel", "kill", "retry", "skip"]


class LiveControl:
    """What a client can do to jobs, stages and tasks while they run.

    The answers hold the thing as it is afterwards, and how much was `changed` and what was left `unchanged`, and why.
    Every method may raise NotFound, Conflict (its state forbids it), PreconditionFailed and Rejected.
    """

    _transport: Transport

    # --- whole jobs

    def pause_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """Start nothing more of a job; what runs goes on."""
        return self.change_job("pause", job_id, etag=etag)

    def resume_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """Let a paused job go on."""
        return self.change_job("resume", job_id, etag=etag)

    def cancel_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """End a job for good. Raises Conflict when it has ended otherwise."""
        return self.change_job("cancel", job_id, etag=etag)

    def kill_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """End what runs of a job now, as a failed attempt."""
        return self.change_job("kill", job_id, etag=etag)

    def retry_job(
        self,
        job_id: str,
        *,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
        only_failed: bool = True,
        etag: str | None = None,
    ) -> ChangedJob:
        """Run again what has failed of a job; secrets of the job that were erased at its end are given again.

        Raises Conflict when there is nothing to run again.
        """
        return self.change_job("retry", job_id, input=input, headers=headers, only_failed=only_failed, etag=etag)

    def skip_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """Let a job count as done."""
        return self.change_job("skip", job_id, etag=etag)

    # --- anything

    def change_job(
        self,
        verb: Verb,
        job_id: str,
        *,
        index: str | None = None,
        state: str | None = None,
        only_failed: bool = True,
        etag: str | None = None,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
    ) -> ChangedJob:
        """Do something to a job; with `index` ("0-99,150") or `state` to those of its tasks.

        Only a retry knows `only_failed` (False: what has completed runs again too); `input` and `headers` are for what
        opens an ended job again, a retry or a skip.
        """
        query = _verb_query(verb, index, state, only_failed)
        return cast(ChangedJob, self._post_verb(f"{job_path(job_id)}/{verb}", query, etag, input, headers))

    def change_stage(
        self,
        verb: Verb,
        job_id: str,
        stage: int,
        *,
        index: str | None = None,
        state: str | None = None,
        only_failed: bool = True,
        etag: str | None = None,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
    ) -> ChangedStage:
        """Do something to a stage, or to some of its tasks; see `change_job`."""
        query = _verb_query(verb, index, state, only_failed)
        path = f"{stage_path(job_id, stage)}/{verb}"
        return cast(ChangedStage, self._post_verb(path, query, etag, input, headers))

    def change_task(
        self,
        verb: Verb,
        task_id: str,
        *,
        only_failed: bool = True,
        etag: str | None = None,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
    ) -> ChangedTask:
        """Do something to one task; see `change_job`."""
        query = _verb_query(verb, None, None, only_failed)
        return cast(ChangedTask, self._post_verb(f"{task_path(task_id)}/{verb}", query, etag, input, headers))

    def retry_tasks(
        self,
        tasks: Iterable[tuple[str, str | None]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> RetriedTasks:
        """Run tasks of any jobs again, each only while it has the etag beside its id (None: any).

        What cannot be is told with its reason, and keeps no other from running.
        """
        wanted: list[dict[str, object]] = []
        for task_id, etag in tasks:
            entry: dict[str, object] = {"task_id": task_id}
            if etag is not None:
                entry["etag"] = etag
            wanted.append(entry)
        return cast(RetriedTasks, self._transport.post_json(f"{API}/tasks/retry", wanted, headers=headers))

    def add_tasks(
        self,
        job_id: str,
        stage: int,
        items: Mapping[str, JsonValue] | Sequence[Mapping[str, JsonValue]],
        *,
        paused: bool = False,
        etag: str | None = None,
    ) -> AddedTasks:
        """Add a task for each item to a stage that has not begun or is paused."""
        query = {"paused": "true"} if paused else {}
        path = f"{stage_path(job_id, stage)}/tasks"
        return cast(AddedTasks, self._transport.post_json(path, items, query=query, headers=_match_header(etag)))

    # --- looks

    def get_stage(self, job_id: str, stage: int) -> Stage:
        """Return one stage of a job."""
        return cast(Stage, self._transport.get_json(stage_path(job_id, stage)))

    def explain_job(self, job_id: str, stage: int | None = None) -> Why:
        """Return what holds a job, or one of its stages, back now."""
        path = job_path(job_id) if stage is None else stage_path(job_id, stage)
        return cast(Why, self._transport.get_json(f"{path}/why"))

    def explain_task(self, task_id: str) -> Why:
        """Return what holds a task back now."""
        return cast(Why, self._transport.get_json(f"{task_path(task_id)}/why"))

    # --- jobs that are in no catalogue

    def compose_job(
        self,
        name: str,
        stages: Sequence[Mapping[str, JsonValue]],
        *,
        paused: bool = False,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Job:
        """Submit a job whose stages are given here; `wait` and the key as in `submit`. Raises Rejected."""
        body = {"name": name, "stages": list(stages), "paused": paused}
        return cast(Job, self._transport.post_keyed(f"{API}/jobs", body, {}, idempotency_key, wait))

    def _post_verb(
        self,
        path: str,
        query: Mapping[str, object],
        etag: str | None,
        values: Mapping[str, JsonValue] | None,
        headers: Mapping[str, str] | None,
    ) -> object:
        body = {"input": values} if values else None
        return self._transport.post_json(path, body, query=query, headers={**(headers or {}), **_match_header(etag)})


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"{API}/jobs/{quote(job_id, safe='')}"


def stage_path(job_id: str, stage: int) -> str:
    """Return the path of a stage."""
    return f"{job_path(job_id)}/stages/{stage}"


def task_path(task_id: str) -> str:
    """Return the path of a task."""
    return f"{API}/tasks/{quote(task_id, safe='')}"


def _verb_query(verb: Verb, index: str | None, state: str | None, only_failed: bool) -> dict[str, object]:
    return {
        "index": index,
        "state": state.upper() if state else None,
        "only_failed": "false" if verb == "retry" and not only_failed else None,
    }


def _match_header(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": f'"{etag}"'}
