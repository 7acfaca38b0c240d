"""The messages between controllers and workers.

A worker sends `Report`s: how attempts ended, what it hands back, what still runs, how much room it has. A controller
answers with `Orders`: attempts granted to this worker, and attempts to stop. Any message may be lost, doubled, delayed
or reordered without harm: the store decides. Secret values travel sealed (`echelon.shared.sealing`), never in clear.

Read by machines that may be one release apart: fields are only added, with defaults; `VERSION` changes when that fails.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from echelon.shared.ids import JobId, TaskId, WorkerId

VERSION = 2

#: Begins the names of queues. Changes with their declared arguments, which must never collide; not with `VERSION`, so
#: that messages of another release are noticed.
QUEUES = "echelon.v1."
#: The queue that every controller listens to.
REPORTS = f"{QUEUES}reports"
#: The queue of messages that cannot be decoded or have no valid signature.
DEAD = f"{QUEUES}dead"
#: A room under this name takes tasks of every queue.
ANY_QUEUE = "*"


def orders_queue(worker: WorkerId) -> str:
    """Return the name of the queue that one life of a worker listens to."""
    return f"{QUEUES}orders.{worker}"


class Outcome(StrEnum):
    """How an attempt ended, as its worker saw it."""

    COMPLETED = "completed"
    #: The process ended with an exit code other than 0, or by a signal that Echelon did not send.
    FAILED = "failed"
    #: The process could not be started: no such command, arguments too long, a value that cannot be used.
    NOT_STARTED = "not_started"
    #: The task's own timeout ended it.
    TIMED_OUT = "timed_out"
    #: The kernel ended it for want of memory.
    OOM_KILLED = "oom_killed"
    #: The spawn task ended well, but its spawn.json cannot be used.
    SPAWN_INVALID = "spawn_invalid"
    #: Ended because an order said so (cancel, fail-fast).
    STOPPED = "stopped"
    #: A person has ended it; it counts as a failure. Never reported: the controller that was asked says so.
    KILLED = "killed"
    #: Cut off by the worker's own shutdown; runs elsewhere and does not count against its retries.
    INTERRUPTED = "interrupted"
    #: The worker itself could not do its part (out of file descriptors, volume missing); does not count either.
    WORKER_FAULT = "worker_fault"
    #: The worker's lease ran out. Never reported: a controller's watchdog says so.
    LOST = "lost"


class AttemptRef(msgspec.Struct, frozen=True, array_like=True):
    """Names one claim of one task: what a worker was given, started or not."""

    task_id: TaskId
    #: Number of the claim, from 1.
    attempt: int


class Started(msgspec.Struct, frozen=True, array_like=True):
    """A task that has started and has not ended."""

    job_id: JobId
    task_id: TaskId
    #: Number of the claim.
    attempt: int
    #: For how many seconds it has run, on the worker's monotonic clock.
    seconds: float


class SpawnedItems(msgspec.Struct, frozen=True):
    """Where a worker laid down the checked items of a spawn.json: one JSON object per line."""

    #: Path relative to the volume.
    path: str
    #: Number of items.
    count: int


class Finished(msgspec.Struct, frozen=True):
    """How one attempt ended."""

    job_id: JobId
    task_id: TaskId
    attempt: int
    outcome: Outcome
    #: Exit code of the process, None when a signal ended it or it never started.
    exit_code: int | None = None
    #: Number of the signal that ended the process.
    signal: int | None = None
    #: A sentence for people, at most 4 KiB; None when the attempt completed.
    error: str | None = None
    #: Length of the run in seconds, measured on the worker's monotonic clock.
    seconds: float = 0.0
    #: The content of the task's ECHELON_OUTPUT, at most 64 KiB.
    result: str | None = None
    #: Only of a spawn task that completed.
    spawned: SpawnedItems | None = None
    #: False: it was held and ended before its worker began to start it, so that it is no attempt.
    begun: bool = True


class WorkerCard(msgspec.Struct, frozen=True):
    """A worker's description of itself."""

    name: str
    host: str
    pid: int
    version: str
    #: Slots per queue name, `ANY_QUEUE` included.
    slots: dict[str, int]
    draining: bool = False
    #: How it finds the processes that a task leaves: cgroup or subreaper; empty: an earlier release.
    containment: str = ""


class Report(msgspec.Struct, frozen=True, tag="report", tag_field="kind"):
    """A message of one worker to the controllers. Each part may be empty."""

    worker: WorkerId
    #: Counts up from 1 within one life of the worker; answers quote it.
    number: int
    #: Free room per queue, beyond what was granted up to order number `seen`; None leaves the last figure standing.
    room: dict[str, int] | None = None
    #: Number of the last `Orders` that the worker has taken in.
    seen: int = 0
    finished: tuple[Finished, ...] = ()
    #: Granted attempts that never started and are handed back.
    released: tuple[AttemptRef, ...] = ()
    #: Every attempt the worker holds (running or granted). Present in heartbeats: their leases are renewed.
    running: tuple[AttemptRef, ...] | None = None
    #: Those that have started: all of them in heartbeats, else some that were not told before. None in a heartbeat: an
    #: earlier release that does not tell, and all that it holds counts as started.
    started: tuple[Started, ...] | None = None
    #: Present in heartbeats.
    card: WorkerCard | None = None
    #: Present in the first report: earlier lives of the same worker that are known to be dead.
    buried: tuple[WorkerId, ...] = ()
    #: The worker's last word: it takes no more.
    goodbye: bool = False
    #: Comes with `room`: how much of it is for tasks that would wait at the worker for a slot.
    ahead: dict[str, int] = {}
    #: Comes with `room`: how much more there is for tasks above a priority, because those that wait there start later.
    urgent: dict[str, dict[int, int]] = {}
    v: int = VERSION


class EnvironmentInput(msgspec.Struct, frozen=True):
    """An input that the worker takes from its own environment."""

    name: str
    #: Name of the variable.
    key: str
    #: None: the variable must be set.
    default: str | None = None
    secret: bool = False


class Recipe(msgspec.Struct, frozen=True):
    """How the tasks of one class are run: all that a worker has to know of the catalogue."""

    task_class: str
    exec_command: str
    exec_args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    #: Name and content of files in the folder of each attempt.
    files: dict[str, str] = {}
    environment: tuple[EnvironmentInput, ...] = ()
    #: Names of the inputs whose values are masked in logs.
    secret: frozenset[str] = frozenset()
    #: Names of the inputs whose values may begin an argument with a dash.
    leading_dash: frozenset[str] = frozenset()
    #: Seconds; None: no limit.
    timeout: float | None = None
    #: Seconds between SIGTERM and SIGKILL.
    grace: float = 5.0
    workdir: Literal["job", "task"] = "job"
    #: The task leaves a spawn.json.
    spawns: bool = False
    #: At most so many items in it.
    max_items: int = 100_000
    #: Names of the secret inputs that the items may hold.
    item_secret: frozenset[str] = frozenset()
    #: Other stages run in the working directory of this spawn task: a spawn.json there may be theirs.
    shares_folder: bool = False


JsonValue = str | int | float | bool | None | list[object] | dict[str, object]


class GrantedTask(msgspec.Struct, frozen=True):
    """One attempt that the worker may start."""

    task_id: TaskId
    attempt: int
    #: Place in the stage, from 0; -1 for a spawn task.
    index: int
    #: The task's own input values; they stand over the job's.
    input: dict[str, JsonValue] = {}
    #: Number of the attempt if it starts: unlike `attempt` it counts only what has started. 0: not told.
    number: int = 0


class Grant(msgspec.Struct, frozen=True):
    """Attempts of one stage, with what they share."""

    job_id: JobId
    #: Number of the stage, from 0.
    stage: int
    stage_name: str
    #: Revision of the catalogue: names the folder of its files on the volume.
    revision: str
    queue: str
    recipe: Recipe
    #: The job's input values without its secrets.
    input: dict[str, JsonValue]
    #: The job's secret values, each sealed.
    sealed: dict[str, str]
    tasks: tuple[GrantedTask, ...]
    #: The job's own key, sealed: opens the secrets of single tasks. None: those are sealed with the volume's key.
    seal: str | None = None
    #: From 0 to 9: attempts of higher priority start first.
    priority: int = 0


class Stop(msgspec.Struct, frozen=True):
    """An attempt that has lost its right to run: end its process tree."""

    task_id: TaskId
    attempt: int
    #: Why, in the words of the history: cancelled, skipped, killed, fail_fast, claim_lost.
    reason: str


class Orders(msgspec.Struct, frozen=True, tag="orders", tag_field="kind"):
    """A message of a controller to one worker."""

    worker: WorkerId
    #: Counts up per worker. 0: it counts for nothing, because it grants nothing or because it is a part of an order
    #: whose last part has the number: who has seen that has got all of it, or never will.
    number: int
    #: Number of the worker's report that this answers: leases count from the moment that report was sent.
    answers: int
    #: Seconds that a lease lasts.
    lease: float
    grants: tuple[Grant, ...] = ()
    stop: tuple[Stop, ...] = ()
    #: True: every attempt named in report `answers` was renewed, but for those in `stop`.
    renewed: bool = False
    #: Attempts to give back if they have not started; else they go on.
    recall: tuple[AttemptRef, ...] = ()
    #: Take no more tasks, and end when those that run have ended.
    drain: bool = False
    v: int = VERSION


Message = Report | Orders
