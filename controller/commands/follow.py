"""Follow a job to its end: show its progress and its failed tasks. For `run`, `watch` and `submit`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
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

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import Job, Task, WorkerAttempt

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"})
#: Failed tasks of one job that are shown; the others are only counted.
_SHOWN_AT_MOST: Final = 5
_TAIL_LINES: Final = 10
_TAIL_CHARACTERS: Final = 2000


class FollowedJob(Protocol):
    """A job to follow, of a controller or of this process."""

    def wait_for_change(self) -> Job:
        """Return the job when it has ended, or after a moment."""

    def list_failed_tasks(self) -> Iterator[Task]:
        """Yield its tasks that are FAILED now."""

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

    def list_failed_tasks(self) -> Iterator[Task]:
        """Yield its tasks that are FAILED now."""
        return self._client.list_tasks(self._job_id, state="FAILED", limit=_SHOWN_AT_MOST)

    def read_stderr(self, task: Task) -> Iterable[str]:
        """Yield the stderr of a task's last attempt, in pieces."""
        return self._client.read_task_log(task["task_id"], stream="stderr")


def follow_job(followed: FollowedJob, job: Job, progress: Progress) -> Job:
    """Show a job until it has ended; return it as it is then."""
    shown: set[str] = set()
    while True:
        if job["failed_tasks"] > len(shown) and len(shown) < _SHOWN_AT_MOST:
            _print_failures(followed, shown, progress)
        progress.show_job(job)
        if job["state"] in ENDED:
            return job
        job = followed.wait_for_change()


def describe_ending(job: Job) -> str:
    """Return the last line about a job."""
    parts = [f"job {job['job_id']} is {format_job_state(job)}"]
    if job["started_at"] and job["ended_at"]:
        parts.append(f"after {format_elapsed(job['started_at'], job['ended_at'])}")
    if job["failed_tasks"] and job["state"] != "COMPLETED":
        parts.append(f"with {format_count(job['failed_tasks'], 'failed task')}")
    return " ".join(parts) + (f": {escape_text(job['error'])}" if job["error"] else "")


def print_ending(job: Job) -> None:
    """Write the last line about a job to stderr."""
    colour = "red" if job["state"] == "FAILED" else style_state(format_job_state(job)) or None
    print_message(describe_ending(job), colour=colour)


def format_place(task: Task | WorkerAttempt) -> str:
    """Return where a task stands in its job: STAGE.INDEX."""
    return f"{task['stage']}.{'spawn' if task['spawn'] else task['index']}"


def _print_failures(followed: FollowedJob, shown: set[str], progress: Progress) -> None:
    fresh = (task for task in followed.list_failed_tasks() if task["task_id"] not in shown)
    for task in islice(fresh, _SHOWN_AT_MOST - len(shown)):
        shown.add(task["task_id"])
        error = escape_text(task["error"] or f"exit code {task['exit_code']}")
        attempts = f" after {format_count(task['attempt'], 'attempt')}" if task["attempt"] > 1 else ""
        name = f"task {format_place(task)} {escape_text(task['task_class'])}"
        progress.print_lines(f"✗ {name} failed{attempts}: {error}", style="red")
        if tail := take_last_lines(followed.read_stderr(task)):
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
