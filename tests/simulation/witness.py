"""Records of requests and of the effect of each of their commits: the rows just before and just after it.

While a transaction is open no other one writes, so the difference between the two looks is its effect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from echelon.controller.core.answers import Verb
from echelon.controller.datastore.tables import INDEX_BITS, task_key
from echelon.controller.engine.base.requests import WHOLE, Choice

#: Returns what a query finds in the store.
LookUp = Callable[[str], list[sqlite3.Row]]


@dataclass(frozen=True, slots=True)
class Wish:
    """One request."""

    number: int
    verb: Verb
    #: The jobs that it is about: one, or those of a list of tasks.
    jobs: tuple[str, ...]
    stage: int | None = None
    choice: Choice = WHOLE
    #: Tasks that it names, each with the etag that was read with it; None: whatever it has.
    named: Mapping[str, int | None] = field(default_factory=dict)
    #: It names a list of tasks, and not one.
    listed: bool = False
    #: The etag that was read of the job or the stage.
    etag: int | None = None
    #: Secrets of the tasks that it adds, in their order; None: without.
    own: tuple[str | None, ...] = ()
    #: The secret that it brings for a job that it opens again.
    token: str = ""
    #: The priority that waiting tasks are to have.
    priority: int = 0

    @property
    def chooses(self) -> bool:
        """Tell whether single tasks are meant, and not a job or a stage as a whole."""
        return bool(self.named) or self.choice.of_tasks

    @property
    def task_id(self) -> str | None:
        """Return the one task that it names."""
        return None if self.listed else next(iter(self.named), None)

    def __str__(self) -> str:
        where = ", ".join(job_id[-8:] for job_id in self.jobs) + ("" if self.stage is None else f".{self.stage}")
        named = "".join(f" {task_id[-8:]}@{etag}" for task_id, etag in self.named.items())
        choice = f" {self.choice}" if self.choice != WHOLE else ""
        etag = "" if self.etag is None else f" if {self.etag}"
        priority = f" to {self.priority}" if self.verb is Verb.PRIORITY else ""
        return f"{self.verb} #{self.number} of {where}{named}{choice}{priority}{etag}"


class TaskRow(NamedTuple):
    """A task as the store has it."""

    task_id: str
    stage: int
    #: -1 of a spawn task.
    index: int
    state: str
    #: Who has paused, cancelled or skipped it.
    by: str | None
    etag: int
    attempt: int
    failures: int
    losses: int
    #: Its own values, as text; and the number of the seal of the secret ones.
    values: str | None
    seal_number: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """A job as it was at one moment."""

    state: str
    #: Number of its present seal.
    seal_number: int
    #: Of the job, or of the stage that is asked about.
    etag: int
    tasks: Mapping[str, TaskRow]
    #: State of each stage, and the priorities of its tasks and of its spawn task.
    stages: Sequence[tuple[str, int, int]] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """The effect of one commit of a request on one job."""

    wish: Wish
    job_id: str
    before: Look
    after: Look
    #: The last line of the diary that belongs to it.
    seq: int


class Witness:
    """Looks at the jobs of a wish around each commit of it."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self.seen: list[Seen] = []

    @contextmanager
    def around(self, wish: Wish) -> Iterator[None]:
        """Note what happens in between."""
        before = {job_id: self._look(wish, job_id) for job_id in wish.jobs}
        yield
        for job_id, was in before.items():
            now = self._look(wish, job_id)
            if was is not None and now is not None and (now != was or wish.verb is Verb.PRIORITY):
                ((seq,),) = self._look_up("SELECT coalesce(max(seq), 0) FROM diary")
                self.seen.append(Seen(wish, job_id, was, now, seq))

    def _look(self, wish: Wish, job_id: str) -> Look | None:
        found = self._look_up(
            "SELECT jobs.key, state, etag, stage_count, seal_number FROM jobs JOIN job_inputs USING (key)"
            f" WHERE job_id = '{job_id}'"
        )
        if not found:
            return None
        key, state, etag, stages, seal_number = found[0]
        if wish.stage is not None:
            ((etag,),) = self._look_up(f"SELECT etag FROM stages WHERE key = {key + wish.stage}")
        rows = self._look_up(
            "SELECT key, task_id, idx, CASE WHEN state = 'RUNNING' AND started_at IS NULL THEN 'QUEUED' ELSE state END,"
            " by_whom, etag, attempt, failures, losses, input, seal_number, error"
            f" FROM tasks WHERE key >= {task_key(key, -1)} AND key < {task_key(key + stages, -1)}"
            # Those of earlier runs are there to be read.
            " AND COALESCE(run, 0) = 0"
        )
        tasks = {row[1]: TaskRow(row[1], (row[0] >> INDEX_BITS) - key, *tuple(row)[2:]) for row in rows}
        ranks = self._look_up(f"SELECT state, priority, spawn_priority FROM stages WHERE job = {key} ORDER BY number")
        return Look(state, seal_number, etag, tasks, [tuple(row) for row in ranks])
