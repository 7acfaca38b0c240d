"""Methods of the client that change jobs, stages and tasks while they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, cast, get_args
from urllib.parse import quote

from echelon.controller.client.errors import Rejected
from echelon.controller.client.transport import Transport
from echelon.controller.shapes import AddedTasks, ChangedJob, ChangedStage, ChangedTask, Job, RetriedTasks, Stage, Why
from echelon.shared.messages import JsonValue

API = "/api/v1"

Verb = Literal["pause", "resume", "cancel", "kill", "retry", "skip"]
_VERBS: Final = get_args(Verb)


class LiveControl:
    """Changes jobs, stages and tasks.

    An answer holds the object as it is now, the number of things that were `changed`, and what stayed `unchanged` with
    the reason. With the `etag` of an earlier answer, a method changes the object only if it has not changed since;
    otherwise it raises `PreconditionFailed` and nothing happens. Every method may raise `NotFound`, `Conflict` (the
    object's state does not allow it) and `Rejected`.
    """

    _transport: Transport

    # --- whole jobs

    def pause_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """Start no more tasks of a job; running tasks continue."""
        return self.change_job("pause", job_id, etag=etag)

    def resume_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """Resume a paused job."""
        return self.change_job("resume", job_id, etag=etag)

    def cancel_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """End a job, including its running tasks. Raises `Conflict` if it has ended in another state."""
        return self.change_job("cancel", job_id, etag=etag)

    def kill_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """End the running tasks of a job now; each counts as a failed attempt."""
        return self.change_job("kill", job_id, etag=etag)

    def retry_job(
        self,
        job_id: str,
        *,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
        only_failed: bool = True,
        downstream: bool = False,
        etag: str | None = None,
    ) -> ChangedJob:
        """Run failed and cancelled tasks of a job again; without `only_failed`, all tasks.

        With `downstream`, the stages behind the first of them run again as a whole, their spawn tasks included.
        `input` and `headers` give the job's secrets again, which were erased when it ended. Raises `Conflict` if there
        is nothing to run again.
        """
        return self.change_job(
            "retry", job_id, input=input, headers=headers, only_failed=only_failed, downstream=downstream, etag=etag
        )

    def skip_job(self, job_id: str, *, etag: str | None = None) -> ChangedJob:
        """Count a job as done without running the rest; running tasks are ended."""
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
        downstream: bool = False,
        etag: str | None = None,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
    ) -> ChangedJob:
        """Apply a verb to a job, or to its tasks in `state` and at `index` ("0-99,150").

        `only_failed` and `downstream` are for a retry: see `retry_job`. `input` and `headers` give the job's
        secrets again when a retry or a skip opens an ended job.
        """
        query = _verb_query(verb, index, state, only_failed, downstream)
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
        downstream: bool = False,
        etag: str | None = None,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
    ) -> ChangedStage:
        """Apply a verb to a stage, or to some of its tasks; see `change_job`."""
        query = _verb_query(verb, index, state, only_failed, downstream)
        path = f"{stage_path(job_id, stage)}/{verb}"
        return cast(ChangedStage, self._post_verb(path, query, etag, input, headers))

    def change_task(
        self,
        verb: Verb,
        task_id: str,
        *,
        only_failed: bool = True,
        downstream: bool = False,
        etag: str | None = None,
        input: Mapping[str, JsonValue] | None = None,  # noqa: A002 - the word of the interface
        headers: Mapping[str, str] | None = None,
    ) -> ChangedTask:
        """Apply a verb to one task; see `change_job`."""
        query = _verb_query(verb, None, None, only_failed, downstream)
        return cast(ChangedTask, self._post_verb(f"{task_path(task_id)}/{verb}", query, etag, input, headers))

    def retry_tasks(
        self,
        tasks: Iterable[tuple[str, str | None]],
        *,
        downstream: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> RetriedTasks:
        """Run tasks of any jobs again, given as (task id, etag or None).

        The answer has a result for each task; one that cannot run again does not affect the others. With `downstream`,
        the stages behind the first of each job run again as a whole.
        """
        wanted: list[dict[str, object]] = []
        for task_id, etag in tasks:
            entry: dict[str, object] = {"task_id": task_id}
            if etag is not None:
                entry["etag"] = etag
            wanted.append(entry)
        query = {"downstream": "true" if downstream else None}
        return cast(RetriedTasks, self._transport.post_json(f"{API}/tasks/retry", wanted, query=query, headers=headers))

    def add_tasks(
        self,
        job_id: str,
        stage: int,
        items: Mapping[str, JsonValue] | Sequence[Mapping[str, JsonValue]],
        *,
        paused: bool = False,
        etag: str | None = None,
    ) -> AddedTasks:
        """Add a task per item, its input values by name, to a stage that has not started or is paused."""
        query = {"paused": "true"} if paused else {}
        path = f"{stage_path(job_id, stage)}/tasks"
        return cast(AddedTasks, self._transport.post_json(path, items, query=query, headers=_match_header(etag)))

    def set_job_priority(self, job_id: str, priority: int, *, etag: str | None = None) -> ChangedJob:
        """Change the priority of the waiting tasks of a job, from 0 to 9; higher ones start first."""
        return cast(ChangedJob, self._post_priority(job_path(job_id), priority, etag))

    def set_stage_priority(self, job_id: str, stage: int, priority: int, *, etag: str | None = None) -> ChangedStage:
        """Change the priority of the waiting tasks of a stage; see `set_job_priority`."""
        return cast(ChangedStage, self._post_priority(stage_path(job_id, stage), priority, etag))

    # --- reading

    def get_stage(self, job_id: str, stage: int) -> Stage:
        """Return one stage of a job."""
        return cast(Stage, self._transport.get_json(stage_path(job_id, stage)))

    def explain_job(self, job_id: str, stage: int | None = None) -> Why:
        """Return the reason why a job, or one of its stages, does not move on now."""
        path = job_path(job_id) if stage is None else stage_path(job_id, stage)
        return cast(Why, self._transport.get_json(f"{path}/why"))

    def explain_task(self, task_id: str) -> Why:
        """Return the reason why a task does not move on now."""
        return cast(Why, self._transport.get_json(f"{task_path(task_id)}/why"))

    # --- jobs that are in no catalogue

    def compose_job(
        self,
        name: str,
        stages: Sequence[Mapping[str, JsonValue]],
        *,
        paused: bool = False,
        priority: int | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Job:
        """Submit a job made of these stages; all else as in `submit_job`. Raises `Rejected`."""
        body = {"name": name, "stages": list(stages), **how_to_begin(paused, priority)}
        return cast(Job, self._transport.post_keyed(f"{API}/jobs", body, {}, idempotency_key, wait))

    def _post_priority(self, path: str, priority: int, etag: str | None) -> object:
        body = {"priority": priority}
        return self._transport.post_json(f"{path}/priority", body, headers=_match_header(etag))

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


def _verb_query(
    verb: Verb, index: str | None, state: str | None, only_failed: bool, downstream: bool
) -> dict[str, object]:
    if verb not in _VERBS:
        raise Rejected(f"there is no verb {verb!r}, only {', '.join(_VERBS)}")
    return {
        "index": index,
        "state": state.upper() if state else None,
        "only_failed": "false" if verb == "retry" and not only_failed else None,
        "downstream": "true" if verb == "retry" and downstream else None,
    }


def how_to_begin(paused: bool, priority: int | None) -> dict[str, object]:
    """Return the parts of a submission that say how the job begins."""
    return ({"paused": True} if paused else {}) | ({} if priority is None else {"priority": priority})


def _match_header(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": f'"{etag}"'}
