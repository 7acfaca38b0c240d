"""Why something does not move on: the one reason that holds it back now, as a code and a sentence.

Pure: `Facts` are one consistent look at the store. Facts about workers are those of workers that are UP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from echelon.controller.core.model import OnError
from echelon.controller.core.states import DONE, ENDED, State
from echelon.controller.datastore.files import Unpublished
from echelon.controller.datastore.records import SPAWN_INDEX, JobView, StageView, TaskView, WorkerView
from echelon.shared.ids import WorkerId
from echelon.shared.messages import ANY_QUEUE


class Code(StrEnum):
    """The kind of reason."""

    #: A stage in front of it is not done.
    WAITING_STAGE = "WAITING_STAGE"
    #: Files that its tasks may want are on their way to the job's workspace.
    WAITING_FILES = "WAITING_FILES"
    PAUSED = "PAUSED"
    #: As many of its tasks run as may.
    MAX_PARALLEL = "MAX_PARALLEL"
    NO_WORKER_FOR_QUEUE = "NO_WORKER_FOR_QUEUE"
    ALL_SLOTS_BUSY = "ALL_SLOTS_BUSY"
    #: An attempt has failed; the next one waits for its time.
    RETRY_AT = "RETRY_AT"
    #: A task has failed or was cancelled; a person has to retry or skip it.
    BLOCKED_BY_FAILURE = "BLOCKED_BY_FAILURE"
    BROKER_DOWN = "BROKER_DOWN"
    #: Nothing holds it back: a worker has it and starts it in its turn, or is given it at the next turn.
    READY = "READY"
    RUNNING = "RUNNING"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something does not move on."""

    code: Code
    sentence: str
    #: Stage that it is about; None: the job.
    stage: int | None = None
    #: Task that it is about.
    task: TaskView | None = None
    #: Since when (PAUSED) or until when (RETRY_AT), seconds since the epoch.
    at: float | None = None
    #: The person who paused it.
    by: str | None = None
    #: The queue in which it waits.
    queue: str | None = None
    #: How many run (MAX_PARALLEL, ALL_SLOTS_BUSY), and how many may.
    running: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a job and at who could run it."""

    job: JobView
    workers: Sequence[WorkerView]
    #: How many attempts each worker holds, per queue.
    taken: Mapping[WorkerId, Mapping[str, int]]
    #: Why the broker cannot be used; None: it can.
    broker_trouble: str | None
    #: Of each stage that waits for a person, the first task that has failed or was cancelled.
    blocking: Mapping[int, TaskView]
    #: Of each stage, the task that waits for the time that comes first.
    waiting: Mapping[int, TaskView]
    #: Of each stage, the first task that a person holds back.
    held: Mapping[int, TaskView]
    #: Of each stage, the first attempt whose files its tasks may want and that are still to be published.
    unpublished: Mapping[int, Unpublished]
    #: The store's time.
    now: float


def explain_job(facts: Facts) -> Reason:
    """Return why a job does not move on."""
    job = facts.job
    if job.state in ENDED:
        failed = _append_failures(job.state, job.failed_tasks)
        return Reason(Code.ENDED, f"The job is {job.state}{failed}{_append_error(job.error)}.")
    if job.by is not None:
        return _explain_paused_job(job, job.by)
    left = [stage for stage in job.stages if stage.state not in DONE]
    order = min((stage.order for stage in left), default=0)
    reasons = [explain_stage(facts, stage.number) for stage in left if stage.order == order]
    held = [reason for reason in reasons if reason.code not in (Code.RUNNING, Code.READY, Code.ENDED)]
    return next(iter([*held, *reasons]), Reason(Code.READY, "The job goes on at the next turn."))


def explain_stage(facts: Facts, number: int) -> Reason:
    """Return why a stage does not move on."""
    job, stage = facts.job, facts.job.stages[number]
    if stage.state in ENDED:
        failed = _append_failures(stage.state, stage.tally.failed)
        sentence = f"Stage {_name_stage(stage)} is {stage.state}{failed}{_append_error(stage.error)}."
        return Reason(Code.ENDED, sentence, number)
    if job.by is not None:
        return _explain_paused_job(job, job.by)
    if stage.by is not None:
        sentence = f"Stage {_name_stage(stage)} is paused by {_name_person(stage.by)}."
        return Reason(Code.PAUSED, sentence, number, at=stage.paused_at, by=stage.by)
    if stage.state is State.PENDING or stage.blocked:
        return _explain_earlier_stage(job, stage)
    return _explain_running(facts, stage)


def explain_task(facts: Facts, task: TaskView) -> Reason:
    """Return why a task does not move on."""
    about = "The spawn task" if task.index == SPAWN_INDEX else f"Task {task.index}"
    if task.state in ENDED:
        return Reason(Code.ENDED, f"{about} is {task.state}{_append_error(task.error)}.", task.stage, task)
    if task.state is State.RUNNING:
        sentence = f"{about} runs on {task.worker or 'a worker'}, attempt {task.attempt}."
        return Reason(Code.RUNNING, sentence, task.stage, task)
    if task.by is not None:
        return Reason(
            Code.PAUSED, f"{about} is paused by {_name_person(task.by)}.", task.stage, task, task.paused_at, task.by
        )
    reason = explain_stage(facts, task.stage)
    if reason.code in (Code.PAUSED, Code.WAITING_STAGE):
        return reason
    if _is_waiting(facts, task):
        return _explain_retry(task)
    stage = facts.job.stages[task.stage]
    if task.given_to is not None:
        return _explain_given(stage, f"{about} is", f"the worker {task.given_to}")
    return _explain_queued(facts, stage) or Reason(
        Code.READY, f"{about} is given to a worker at the next turn.", task.stage
    )


def _explain_running(facts: Facts, stage: StageView) -> Reason:
    """Return why a stage whose turn it is does not move on."""
    tally = stage.tally
    if count_claimable(stage):
        held = _explain_queued(facts, stage)
        if held is not None:
            return held
    running = tally.shown.running + (stage.shown_spawn is State.RUNNING)
    if running:
        return Reason(
            Code.RUNNING, f"{_count_words(running)} of stage {_name_stage(stage)} {_run_word(running)}.", stage.number
        )
    if stage.given:
        count = tally.given or 1
        who = f"{_count_words(count)} of stage {_name_stage(stage)} {'is' if count == 1 else 'are'}"
        return _explain_given(stage, who, "a worker" if count == 1 else "workers")
    if count_claimable(stage):
        return Reason(Code.READY, f"Stage {_name_stage(stage)} is given to workers at the next turn.", stage.number)
    if stage.number in facts.waiting and _is_waiting(facts, facts.waiting[stage.number]):
        return _explain_retry(facts.waiting[stage.number])
    if stage.number in facts.held:
        return _explain_held(stage, facts.held[stage.number])
    if stage.on_error == OnError.BLOCK and stage.number in facts.blocking:
        task = facts.blocking[stage.number]
        about = "the spawn task" if task.index == SPAWN_INDEX else f"task {task.index}"
        sentence = f"Stage {_name_stage(stage)} waits for a person: {about} is {task.state}{_append_error(task.error)}."
        return Reason(Code.BLOCKED_BY_FAILURE, sentence, stage.number, task)
    return Reason(Code.READY, f"Stage {_name_stage(stage)} goes on at the next turn.", stage.number)


def _explain_queued(facts: Facts, stage: StageView) -> Reason | None:
    """Return why what is queued does not start; None: nothing keeps it from starting."""
    tally, number = stage.tally, stage.number
    if number in facts.unpublished:
        return _explain_files(facts.job, stage, facts.unpublished[number])
    if stage.max_parallel is not None and tally.running >= stage.max_parallel:
        running = tally.shown.running
        sentence = f"As many tasks of stage {_name_stage(stage)} run as may: {running}/{stage.max_parallel}."
        if tally.given:
            sentence = (
                f"As many tasks of stage {_name_stage(stage)} are at workers as may run at once: {stage.max_parallel},"
                f" of which {running} run."
            )
        return Reason(Code.MAX_PARALLEL, sentence, number, running=running, limit=stage.max_parallel)
    return _explain_no_room(facts, stage)


def _explain_given(stage: StageView, who: str, where: str) -> Reason:
    """Return why what a worker holds has not started."""
    return Reason(Code.READY, f"{who} with {where}, to start as soon as a slot is free there.", stage.number)


def _explain_no_room(facts: Facts, stage: StageView) -> Reason | None:
    """Return why no worker takes what is queued; None: one does."""
    number, queue = stage.number, stage.claim_queue
    if facts.broker_trouble is not None:
        sentence = f"The message broker is away, so no worker can be told to start anything: {facts.broker_trouble}."
        return Reason(Code.BROKER_DOWN, sentence, number)
    serving = [worker for worker in facts.workers if worker.state == "UP" and serves_queue(worker.slots, queue)]
    if not serving:
        return Reason(Code.NO_WORKER_FOR_QUEUE, f"{no_worker(count_claimable(stage), queue)}.", number, queue=queue)
    slots = sum(worker.slots.get(queue, 0) + worker.slots.get(ANY_QUEUE, 0) for worker in serving)
    running = sum(_count_busy(worker.slots, facts.taken.get(worker.worker_id, {}), queue) for worker in serving)
    if running >= slots:
        sentence = f"All slots of the workers for the queue {queue!r} are busy: {running}/{slots}."
        return Reason(Code.ALL_SLOTS_BUSY, sentence, number, queue=queue, running=running, limit=slots)
    return None


def count_claimable(stage: StageView) -> int:
    """Return how many tasks of a stage could begin now, if there were room for them."""
    if stage.state is not State.RUNNING or stage.by is not None or stage.blocked:
        return 0
    return 1 if stage.spawn is State.QUEUED else stage.tally.queued


def serves_queue(queues: Collection[str], queue: str) -> bool:
    """Tell whether a worker with these queues takes tasks of this one."""
    return queue in queues or ANY_QUEUE in queues


def _count_busy(slots: Mapping[str, int], taken: Mapping[str, int], queue: str) -> int:
    """Return how many of the slots that take tasks of a queue are busy; those for any queue may be with others' tasks.

    Running tasks take the slots of their own queue first.
    """
    own = min(taken.get(queue, 0), slots.get(queue, 0))
    elsewhere = sum(max(0, count - slots.get(name, 0)) for name, count in taken.items())
    return own + min(elsewhere, slots.get(ANY_QUEUE, 0))


def no_worker(number: int, queue: str, *, connected: bool = True) -> str:
    """Say that tasks wait for a queue that no worker serves; without the broker it is not known whether one does."""
    tasks = "1 task waits" if number == 1 else f"{number} tasks wait"
    cause = "no worker takes tasks from it" if connected else "no worker can be heard without the broker"
    return f"{tasks} for the queue {queue!r}, and {cause}"


def _explain_earlier_stage(job: JobView, stage: StageView) -> Reason:
    front = next((one for one in job.stages if one.order < stage.order and one.state not in DONE), None)
    if front is None:
        return Reason(Code.READY, f"Stage {_name_stage(stage)} begins at the next turn.", stage.number)
    again = " again" if stage.blocked else ""
    sentence = f"Stage {_name_stage(stage)} waits{again} for stage {_name_stage(front)}, which is {front.state}."
    return Reason(Code.WAITING_STAGE, sentence, stage.number)


def _explain_files(job: JobView, stage: StageView, unpublished: Unpublished) -> Reason:
    about = "the spawn task" if unpublished.index == SPAWN_INDEX else f"task {unpublished.index}"
    source = _name_stage(job.stages[unpublished.stage])
    sentence = (
        f"Stage {_name_stage(stage)} waits for files: those of {about} of stage {source} are on their way to the job's"
        " workspace."
    )
    return Reason(Code.WAITING_FILES, sentence, stage.number)


def _is_waiting(facts: Facts, task: TaskView) -> bool:
    """Tell whether the time of a task's next attempt is still to come."""
    return task.state is State.PENDING and task.due_at is not None and task.due_at > facts.now


def _explain_retry(task: TaskView) -> Reason:
    about = "The spawn task" if task.index == SPAWN_INDEX else f"Task {task.index}"
    sentence = f"{about} waits for the time of its attempt {task.attempt + 1}."
    if task.lease_until is not None and task.lease_until == task.due_at:
        sentence = f"{about} waits until its worker tells that attempt {task.attempt} is gone, or its lease is over."
    return Reason(Code.RETRY_AT, sentence, task.stage, task, task.due_at)


def _explain_paused_job(job: JobView, by: str) -> Reason:
    return Reason(Code.PAUSED, f"The job is paused by {_name_person(by)}.", at=job.paused_at, by=by)


def _explain_held(stage: StageView, first: TaskView) -> Reason:
    person = _name_person(first.by)
    if first.index == SPAWN_INDEX:
        sentence = f"The spawn task of stage {_name_stage(stage)} is paused by {person}."
    elif stage.tally.held == 1:
        sentence = f"Task {first.index} of stage {_name_stage(stage)} is paused by {person}."
    else:
        count = _count_words(stage.tally.held)
        sentence = f"{count} of stage {_name_stage(stage)} are paused, the first, task {first.index}, by {person}."
    return Reason(Code.PAUSED, sentence, stage.number, first, first.paused_at, first.by)


def _name_stage(stage: StageView) -> str:
    return f"{stage.number} ({stage.name})"


def _name_person(by: str | None) -> str:
    """Return who has done something; of a client that gave no name only the request is known."""
    if by is None:
        return "a person"
    return f"a client that gave no name ({by})" if by.startswith("request ") else by


def _append_failures(state: State, failed: int) -> str:
    """Return what is not as well as it looks."""
    return f", although {_count_words(failed)} failed" if failed and state is State.COMPLETED else ""


def _append_error(error: str | None) -> str:
    return f": {error}" if error else ""


def _count_words(number: int) -> str:
    return "1 task" if number == 1 else f"{number} tasks"


def _run_word(number: int) -> str:
    return "runs" if number == 1 else "run"
