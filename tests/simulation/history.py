"""The records of a run for its checker. Runs of real processes fill the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Run:
    """A line of the ledger: one process of a task, as it said itself."""

    job_id: str
    task_id: str
    stage: int
    #: -1 of a spawn task.
    index: int
    #: Number of its claim.
    attempt: int
    #: Number of the attempt as it was told, from 1.
    number: int
    #: Id of the worker's life.
    life: str
    revision: str
    #: An argument that names the edition of the catalogue.
    edition: str
    #: The secret that it was given.
    token: str
    started: float
    #: None: it had not ended when the run was over.
    ended: float | None = None
    #: It ended by itself.
    whole: bool = False
    #: Items of the spawn.json that it left.
    spawned: int | None = None
    #: Files that it found in the workspace: name -> content; None: not looked at.
    found: Mapping[str, str] | None = None


@dataclass(slots=True)
class Life:
    """One life of a worker."""

    worker: str
    name: str
    born: float
    died: float | None
    #: When it stood still, each from when until when.
    pauses: Sequence[tuple[float, float]]
    #: The moments when a lease ended without a controller that could end it, and the worker kept its tasks.
    kept: Sequence[float] = ()
    #: How many tasks it may run at once.
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """An attempt that got a slot of a worker."""

    job_id: str
    queue: str
    priority: int
    #: How many had got one when it came to wait.
    place: int


@dataclass(slots=True)
class Asked:
    """One request of a person and its answer, in the manner of Jepsen."""

    #: submit, cancel, retry.
    what: str
    #: ok: binding; info: may have happened or not; refused: has not happened.
    answer: str
    begun: float
    ended: float
    job_id: str | None = None
    key: str | None = None
    #: Revisions in force while it was asked.
    revisions: Sequence[str] = ()
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the diary: one committed change of a state, in the order of the commits."""

    seq: int
    at: float
    #: job, stage, task.
    kind: str
    key: int
    #: None: it has just come to be.
    before: str | None
    after: str
    attempt: int | None = None
    worker: int | None = None
    lease_until: float | None = None
    #: When what runs has started; None: it waits for a slot.
    started_at: float | None = None
    #: Number of the transaction, of a task's change.
    turn: int | None = None
    #: How many workers a task has lost.
    losses: int | None = None


#: A row of a table, by column.
Row = Mapping[str, Any]


@dataclass
class History:
    """All that is known of a run."""

    jobs: Sequence[Row]
    stages: Sequence[Row]
    tasks: Sequence[Row]
    attempts: Sequence[Row]
    events: Sequence[Row]
    #: Key of a worker in the store -> id of its life.
    workers: Mapping[int, str]
    diary: Sequence[Entry]
    ledger: Sequence[Run]
    lives: Mapping[str, Life]
    asked: Sequence[Asked]
    #: Revision -> the argument that names its edition.
    editions: Mapping[str, str]
    #: Files that are visible in workspaces: path -> content.
    files: Mapping[str, str]
    #: When the last fault struck, and when the run was over.
    calm_from: float
    ended: float
    #: Orders that the broker returned to a controller as not taken, in the calm: (when, task id, attempt).
    refused: Sequence[tuple[float, str, int]] = ()
    #: Worker lives that a later life of the same worker has declared dead, in the calm: (when, worker id).
    buried: Sequence[tuple[float, str]] = ()
    #: (transaction, stage, whether it has tasks to claim from then on, their queue, their priority), in order.
    line: Sequence[tuple[int, int, int, str, int]] = ()
    #: Life -> the attempts that got a slot of it, in order.
    taken: Mapping[str, Sequence[Taken]] = field(default_factory=dict)
    #: A process may be ended before it has written its line of the ledger: it needs a millisecond for that.
    late_ledger: bool = False
    max_losses: int = 3
    retry_limits: Mapping[str, int] = field(default_factory=dict)
