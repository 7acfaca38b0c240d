"""Follow a job to its end: show its progress and its failed tasks. For `run`, `watch` and `submit`."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from echelon.controller.commands.progress import Progress, format_job_state
from echelon.controller.commands.screen import (
    escape_log,
    escape_text,
    format_count,
    format_elapsed,
    print_message,
    style_state,
)
from echelon.shared.wrapping import cut_text

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import ErrorGroup, Job, JobErrors, NamedTask, Task, TaskPlace

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"})
#: Kinds of errors of one job that are shown; the others are only counted.
_SHOWN_AT_MOST: Final = 5
#: Seconds between two looks at the errors of a job that still runs.
_ASK_EVERY: Final = 2.0
_LONGEST_LABEL: Final = 60
_TAIL_LINES: Final = 10
_TAIL_CHARACTERS: Final = 2000


class FollowedJob(Protocol):
    """A job to follow, of a controller or of this process."""

    def wait_for_change(self) -> Job:
        """Return the job when it has ended, or after a moment."""

    def list_errors(self) -> JobErrors:
        """Return why its tasks are FAILED, in groups."""

    def find_task(self, task_id: str) -> Task:
        """Return one of its tasks."""

    def read_stderr(self, task: Task) -> Iterable[str]:
        """Yield the stderr of a task's last attempt, in pieces."""


class RemoteJob:
    """A job of a controller that answers over HTTP."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id

    def wait_for_change(self) -> Job:
        """Return the job when it has ended, or after a second."""
        return self._client.get_job(self._job_id, wait=1.0)

    def list_errors(self) -> JobErrors:
        """Return why its tasks are FAILED, in groups."""
        return self._client.list_errors(self._job_id)

    def find_task(self, task_id: str) -> Task:
        """Return one of its tasks."""
        return self._client.get_task(task_id)

    def read_stderr(self, task: Task) -> Iterable[str]:
        """Yield the stderr of a task's last attempt, in pieces."""
        return self._client.read_task_log(task["task_id"], stream="stderr")


def follow_job(followed: FollowedJob, job: Job, progress: Progress) -> Job:
    """Show a job until it has ended; return it as it is then."""
    failures = _Failures(followed, progress)
    while True:
        failures.show_new(job)
        progress.show_job(job)
        if job["state"] in ENDED:
            failures.show_counts()
            return job
        job = followed.wait_for_change()


class _Failures:
    """Tells of each kind of error once, with the output of one task, and in the end how many tasks had it."""

    def __init__(self, followed: FollowedJob, progress: Progress) -> None:
        self._followed = followed
        self._progress = progress
        self._shown: dict[tuple[int, str], ErrorGroup] = {}
        self._known = 0
        self._asked_at = -math.inf

    def show_new(self, job: Job) -> None:
        """Show errors of kinds that were not there before."""
        failed, ended = job["failed_tasks"], job["state"] in ENDED
        if failed == self._known or not (ended or time.monotonic() - self._asked_at >= _ASK_EVERY):
            return
        self._known, self._asked_at = failed, time.monotonic()
        for group in self._followed.list_errors()["groups"]:
            key = (group["stage"], group["error"])
            if key not in self._shown and len(self._shown) < _SHOWN_AT_MOST:
                _print_failure(self._followed, group, self._progress)
            if key in self._shown or len(self._shown) < _SHOWN_AT_MOST:
                self._shown[key] = group

    def show_counts(self) -> None:
        """Show how many tasks had each of these errors, unless each had its own line; and that there are others."""
        several = [group for group in self._shown.values() if group["count"] > 1]
        for group in sorted(several, key=lambda group: -group["count"]):
            self._progress.print_lines(
                f"✗ {group['count']} tasks of stage {group['stage']} failed with: {escape_text(group['error'])}",
                style="red",
            )
        told = sum(group["count"] for group in self._shown.values())
        if rest := self._known - told:
            self._progress.print_lines(f"✗ {format_count(rest, 'task')} failed with other errors", style="red")


def describe_ending(job: Job) -> str:
    """Return the last line about a job."""
    parts = [f"job {job['job_id']} is {format_job_state(job)}"]
    if job["started_at"] and job["ended_at"]:
        parts.append(f"after {format_elapsed(job['started_at'], job['ended_at'])}")
    if job["failed_tasks"] and job["state"] != "COMPLETED":
        parts.append(f"with {format_count(job['failed_tasks'], 'failed task')}")
    # The reason of a task that failed has been told with the task.
    error = (job["error"] or "").partition(": task " if job["failed_tasks"] else "\0")[0]
    return " ".join(parts) + (f": {escape_text(error)}" if error else "")


def print_ending(job: Job) -> None:
    """Write the last line about a job to stderr."""
    colour = "red" if job["state"] == "FAILED" or job["error"] else style_state(format_job_state(job)) or None
    print_message(describe_ending(job), colour=colour)


def format_place(task: TaskPlace) -> str:
    """Return where a task stands in its job: STAGE.INDEX."""
    return f"{task['stage']}.{'spawn' if task['spawn'] else task['index']}"


def format_named(task: NamedTask) -> str:
    """Return where a task stands in its job, and its item."""
    label = task.get("label")
    return f"{format_place(task)} ({cut_text(escape_text(label), _LONGEST_LABEL)})" if label else format_place(task)


def _print_failure(followed: FollowedJob, group: ErrorGroup, progress: Progress) -> None:
    task = followed.find_task(group["tasks"][0]["task_id"])
    error = escape_text(task["error"] or group["example"])
    attempts = f" after {format_count(task['attempt'], 'attempt')}" if task["attempt"] > 1 else ""
    name = f"task {format_named(task)} {escape_text(task['task_class'])}"
    progress.print_lines(f"✗ {name} failed{attempts}: {error}", style="red")
    tail = take_last_lines(followed.read_stderr(task))
    if tail and not (len(tail) == 1 and tail[0].strip() in error):
        progress.print_lines("\n".join(f"  | {line}" for line in tail), style="dim")


def take_last_lines(pieces: Iterable[str]) -> list[str]:
    """Return the end of a text, escaped for a terminal."""
    kept: deque[str] = deque()
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        while size - len(kept[0]) >= _TAIL_CHARACTERS:
            size -= len(kept.popleft())
    return escape_log("".join(kept)[-_TAIL_CHARACTERS:]).rstrip("\n").split("\n")[-_TAIL_LINES:] if size else []
