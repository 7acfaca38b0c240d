"""Follow a job to its end: how it moves, which tasks failed, what they said last. For `run`, `watch` and `submit`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

import click

from echelon.controller.commands.progress import Progress
from echelon.controller.commands.screen import counted, lasted, safe, safe_lines

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Held, Job, Task

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"})
#: Failed tasks of one job that are told of; the others are counted.
_TOLD_AT_MOST: Final = 5
_TAIL_LINES: Final = 10
_TAIL_CHARACTERS: Final = 2000


class Followed(Protocol):
    """A job that can be looked at, wherever it runs."""

    def look(self) -> Job:
        """Return the job when it has ended, or after a moment."""

    def failed(self) -> Iterator[Task]:
        """Yield its tasks that are FAILED now."""

    def stderr(self, task: Task) -> Iterable[str]:
        """Yield what a task's last attempt wrote to stderr, in pieces."""


class RemoteJob:
    """A job of a controller that answers over HTTP."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id

    def look(self) -> Job:
        """Return the job when it has ended, or after a second."""
        return self._client.job(self._job_id, wait=1.0)

    def failed(self) -> Iterator[Task]:
        """Yield its tasks that are FAILED now."""
        return self._client.tasks(self._job_id, state="FAILED", limit=_TOLD_AT_MOST)

    def stderr(self, task: Task) -> Iterable[str]:
        """Yield what a task's last attempt wrote to stderr, in pieces."""
        return self._client.task_log(task["task_id"], stream="stderr")


def follow(followed: Followed, job: Job, progress: Progress) -> Job:
    """Show a job until it has ended and return it as it is then."""
    told: set[str] = set()
    while True:
        if job["failed_tasks"] > len(told) and len(told) < _TOLD_AT_MOST:
            _tell_failures(followed, told, progress)
        progress.show(job)
        if job["state"] in ENDED:
            return job
        job = followed.look()


def ending(job: Job) -> str:
    """Return the last line about a job."""
    parts = [f"job {job['job_id']} is {job['state']}"]
    if job["started_at"] and job["ended_at"]:
        parts.append(f"after {lasted(job['started_at'], job['ended_at'])}")
    if job["failed_tasks"]:
        parts.append(f"with {counted(job['failed_tasks'], 'failed task')}")
    return " ".join(parts) + (f": {safe(job['error'])}" if job["error"] else "")


def tell_ending(job: Job) -> None:
    """Write the last line about a job to stderr."""
    colour = {"COMPLETED": "green", "FAILED": "red", "CANCELLED": "yellow"}.get(job["state"])
    click.secho(ending(job), fg=colour, err=True)


def place(task: Task | Held) -> str:
    """Return where a task stands in its job: STAGE.INDEX."""
    return f"{task['stage']}.{'spawn' if task['spawn'] else task['index']}"


def held(one: Job | Task) -> str:
    """Return the state of a job or a task, and whether a person holds it back."""
    return one["state"] + (", paused" if one.get("paused") else "")


def _tell_failures(followed: Followed, told: set[str], progress: Progress) -> None:
    fresh = (task for task in followed.failed() if task["task_id"] not in told)
    for task in islice(fresh, _TOLD_AT_MOST - len(told)):
        told.add(task["task_id"])
        why = safe(task["error"] or f"exit code {task['exit_code']}")
        attempts = f" after {counted(task['attempt'], 'attempt')}" if task["attempt"] > 1 else ""
        progress.tell(f"✗ task {place(task)} {safe(task['task_class'])} failed{attempts}: {why}", style="red")
        if tail := last_lines(followed.stderr(task)):
            progress.tell("\n".join(f"  | {line}" for line in tail), style="dim")


def last_lines(pieces: Iterable[str]) -> list[str]:
    """Return the end of a text, harmless for a terminal."""
    kept: deque[str] = deque()
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        while size - len(kept[0]) >= _TAIL_CHARACTERS:
            size -= len(kept.popleft())
    return safe_lines("".join(kept)[-_TAIL_CHARACTERS:]).rstrip("\n").split("\n")[-_TAIL_LINES:] if size else []
