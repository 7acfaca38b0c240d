"""Turn ended attempts into what becomes of their tasks: judge each, write all, fold them to one event per stage.

Called by the intake (a worker reported) and by the watchdog (a lease ran out). The guard stands here and in the store:
an attempt counts only while its task is RUNNING with that attempt number on that worker.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from echelon.controller.catalogue.task_classes import Retry
from echelon.controller.core.events import SpawnTaskMoved, TasksMoved, Together
from echelon.controller.core.model import Job
from echelon.controller.core.policy import Budget, Verdict, judge_attempt
from echelon.controller.core.states import State
from echelon.controller.datastore.files import Unpublished
from echelon.controller.datastore.records import SPAWN_INDEX, Settlement, TaskRow
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.labels import MASK
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.logs import JOBS
from echelon.shared.messages import AttemptRef, Finished, JsonValue, Outcome
from echelon.shared.volume import attempt_name
from echelon.shared.volume.starts import StartFiles
from echelon.shared.wrapping import cut_text

#: Failures of one batch that get a line of their own in the history; the rest is found in the list of tasks.
_REMEMBERED = 20
#: Characters of an item in the error of its stage.
_LONGEST_LABEL = 60


class Ending(msgspec.Struct):
    """An attempt that ended, with the task as the store has it."""

    task: TaskRow
    finished: Finished
    #: A controller says so, and does not know whether the task had started.
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class _Rules:
    """How attempts of one class of a job are judged, and where their files are."""

    retry: Retry
    #: They are in a folder of the task's own.
    private: bool
    #: The job fails already, so that nothing is tried again.
    failing: bool


class Settler:
    """Writes how attempts ended. Knows no worker and no broker."""

    def __init__(
        self, *, snapshots: Snapshots, counters: Counters, max_losses: int, starts: StartFiles | None = None
    ) -> None:
        """`starts` tells of attempts whose worker is lost."""
        self._starts = starts
        self._snapshots = snapshots
        self._counters = counters
        self._max_losses = max_losses

    def settle_attempts(self, unit: UnitOfWork, endings: Sequence[Ending], *, again: bool = False) -> float | None:
        """Settle attempts of locked jobs; return the earliest time at which one of them is due again.

        `again`: each is done once more at once, whatever its retries say.
        """
        by_job: dict[JobId, list[Settlement]] = {}
        spawned: dict[tuple[JobId, int], int] = {}
        now = unit.tx.now()
        rules = self._find_rules(unit, [ending.task for ending in endings])
        begun = self._find_starts(endings, now)
        for ending, started_at in zip(endings, begun, strict=True):
            task, finished = ending.task, ending.finished
            rule = rules[task.job_id, task.task_class]
            verdict = Verdict(State.PENDING) if again else self._judge_attempt(task, finished.outcome, rule)
            settlement = _make_settlement(task, finished, verdict, now)
            settlement.counted, settlement.started_at = started_at is not None, started_at
            if not settlement.counted and settlement.outcome is Outcome.INTERRUPTED:
                settlement.error = None
            by_job.setdefault(task.job_id, []).append(settlement)
            if settlement.state is State.COMPLETED:
                settlement.private = rule.private
                self._keep_files(unit, settlement, finished, spawned)
        self._counters.count_settled([ending.finished for ending in endings])
        unit.tx.settle_attempts([settlement for rows in by_job.values() for settlement in rows])
        if JOBS.isEnabledFor(logging.DEBUG):
            _log_settlements(unit, by_job)
        labels = self._label_failures(unit, by_job)
        for job_id, rows in by_job.items():
            self._remember_failures(unit, job_id, rows)
            unit.apply_event(job_id, Together(tuple(fold_settlements(rows, spawned, labels))))
        due = [row.not_before for rows in by_job.values() for row in rows if row.not_before is not None]
        return min(due, default=None)

    def _label_failures(self, unit: UnitOfWork, by_job: Mapping[JobId, Sequence[Settlement]]) -> dict[TaskId, str]:
        """Return the labels of the tasks that stages name in their errors: the first that failed of each."""
        first: dict[tuple[JobId, int], TaskId] = {}
        for job_id, rows in by_job.items():
            for row in rows:
                if row.state is State.FAILED and row.error and not row.task.spawn:
                    first.setdefault((job_id, row.task.stage), row.task.task_id)
        if not first:
            return {}
        items, labels = unit.tx.load_items(first.values()), {}
        for (job_id, _), task_id in first.items():
            names = self._snapshots.label_tasks(job_id, partial(_mask_inputs, unit, job_id))
            label = names.label_task(*items[task_id])
            if label:
                labels[task_id] = cut_text(label, _LONGEST_LABEL)
        return labels

    def _find_starts(self, endings: Sequence[Ending], now: float) -> list[float | None]:
        """Return when each task had started, by the store's clock; None: it had not, so that it was no attempt."""
        doubtful = [one.task for one in endings if one.doubtful and one.task.started_at is None]
        known = self.read_starts(doubtful)
        found: list[float | None] = []
        for ending in endings:
            task, finished = ending.task, ending.finished
            started_at = task.started_at
            if started_at is None and finished.begun:
                started_at = now - finished.seconds
            elif started_at is None and ending.doubtful and task.worker in known:
                started_at = known[task.worker].get(AttemptRef(task.task_id, task.attempt))
            elif started_at is None and ending.doubtful and finished.outcome is Outcome.LOST:
                # A worker of an earlier release keeps no file: it may have started all that it held.
                started_at = now
            found.append(started_at)
        return found

    def read_starts(self, tasks: Iterable[TaskRow]) -> dict[WorkerId | None, Mapping[AttemptRef, float]]:
        """Return what the workers of these tasks have started last by their files; one without a file is missing."""
        workers = {task.worker for task in tasks if task.worker is not None} if self._starts is not None else set()
        read = {worker: self._starts.find_starts(worker) for worker in workers if self._starts is not None}
        return {worker: starts for worker, starts in read.items() if starts is not None}

    def kill_attempts(self, unit: UnitOfWork, tasks: Sequence[TaskRow], by: str, *, again: bool = False) -> None:
        """End attempts of locked jobs by a person's hand: failed ones, or (`again`) such as are just done once more.

        The next attempts wait until the worker reports that their processes are gone, for a lease at most.
        """
        error = f"killed by {by}"
        endings = [
            Ending(task, Finished(task.job_id, task.task_id, task.attempt, Outcome.KILLED, error=error))
            for task in tasks
            if task.started
        ]
        if endings:
            self.settle_attempts(unit, endings, again=again)
        for ending in endings:
            task = ending.task
            assert task.worker is not None, "what runs has a worker"
            unit.stop_attempts([(task.worker, AttemptRef(task.task_id, task.attempt))], "killed")

    def _find_rules(self, unit: UnitOfWork, tasks: Iterable[TaskRow]) -> dict[tuple[JobId, str], _Rules]:
        """Return the rules by job and task class."""
        found: dict[tuple[JobId, str], _Rules] = {}
        for job_id, name in {(task.job_id, task.task_class): None for task in tasks}:
            job = unit.find_job(job_id)
            assert job is not None, "the caller locks the job first"
            task_class = self._snapshots.task_class(job_id, name)
            found[job_id, name] = _Rules(task_class.retry, task_class.workdir == "task", _is_failing(job))
        return found

    def _judge_attempt(self, task: TaskRow, outcome: Outcome, rules: _Rules) -> Verdict:
        budget = Budget(task.failures, task.losses)
        return judge_attempt(outcome, budget, rules.retry, max_losses=self._max_losses, failing=rules.failing)

    def _keep_files(
        self, unit: UnitOfWork, settlement: Settlement, finished: Finished, spawned: dict[tuple[JobId, int], int]
    ) -> None:
        """Note what is to be done with the files of an attempt that counts, if this transaction is committed."""
        task = settlement.task
        if settlement.private:
            unit.unpublished.append(Unpublished(task.key, task.job_id, task.stage, task.index, task.attempt))
        if task.spawn:
            attempt_path = attempt_name(task.job_id, task.stage, task.index, task.attempt)
            # The worker names the file too, but only the counted attempt's own place is believed.
            count = finished.spawned.count if finished.spawned else 0
            spawned[task.job_id, task.stage] = count
            unit.tx.set_spawned(task.job_id, task.stage, f"{attempt_path}/items.ndjson")

    def _remember_failures(self, unit: UnitOfWork, job_id: JobId, rows: Iterable[Settlement]) -> None:
        # An attempt that was handed back before it started is no news.
        handed_back = {Outcome.INTERRUPTED, Outcome.STOPPED}
        failed = [
            row for row in rows
            if row.outcome is not Outcome.COMPLETED and (row.counted or row.outcome not in handed_back)
        ]  # fmt: skip
        for row in failed:
            self._counters.count_failed(row.task.task_class, row.outcome)
        for row in failed[:_REMEMBERED]:
            kind = "task_failed" if row.state is State.FAILED else "attempt_failed" if row.counted else "not_started"
            detail = {"index": _show_index(row.task), "outcome": row.outcome.value}
            if row.counted:
                detail["attempt"] = row.task.number
            if row.error:
                detail["error"] = row.error[:500]
            unit.tx.record_event(job_id, kind, stage=row.task.stage, detail=detail)
        if len(failed) > _REMEMBERED:
            unit.tx.record_event(job_id, "more_attempts_failed", detail={"attempts": len(failed) - _REMEMBERED})


def fold_settlements(
    rows: Iterable[Settlement], spawned: dict[tuple[JobId, int], int], labels: Mapping[TaskId, str]
) -> list[TasksMoved | SpawnTaskMoved]:
    """Return what the settlements of one job mean for its stages: one event per stage, and one per spawn task."""
    moves: dict[int, Counter[tuple[State, State]]] = {}
    held: Counter[int] = Counter()
    started: Counter[int] = Counter()
    errors: dict[int, str] = {}
    events: list[TasksMoved | SpawnTaskMoved] = []
    for row in rows:
        task = row.task
        error = f"{_name_task(task, labels)}: {row.error}" if row.state is State.FAILED and row.error else None
        if task.spawn:
            expected = spawned.get((task.job_id, task.stage))
            events.append(SpawnTaskMoved(task.stage, row.state, expected, error))
            continue
        moves.setdefault(task.stage, Counter())[State.RUNNING, row.state] += 1
        started[task.stage] -= task.started_at is not None
        held[task.stage] += task.paused and row.state is State.PENDING
        if error:
            errors.setdefault(task.stage, error)
    for stage, counts in sorted(moves.items()):
        paused = 0 if ablated("paused_count") else held[stage]
        events.append(TasksMoved(stage, counts, errors.get(stage), paused, started[stage]))
    return events


def _is_failing(job: Job) -> bool:
    """Tell whether something has failed the job already, so that nothing is tried again."""
    return any(stage.failing for stage in job.living)


def _make_settlement(task: TaskRow, finished: Finished, verdict: Verdict, now: float) -> Settlement:
    error = finished.error
    # A paused task is never QUEUED: it waits until it is resumed.
    state = State.PENDING if task.paused and verdict.state is State.QUEUED else verdict.state
    if verdict.state is State.FAILED and finished.outcome is Outcome.LOST:
        error = f"worker_lost: {task.losses + 1} workers were lost while they ran this task"
    return Settlement(
        task=task,
        state=state,
        outcome=finished.outcome,
        exit_code=finished.exit_code,
        signal=finished.signal,
        error=error,
        result=finished.result if finished.outcome is Outcome.COMPLETED else None,
        not_before=now + verdict.delay if verdict.state is State.PENDING else None,
        failure=verdict.failure,
        loss=verdict.loss,
        killed=finished.outcome is Outcome.KILLED and not ablated("kill_lease"),
    )


def _mask_inputs(unit: UnitOfWork, job_id: JobId) -> dict[str, JsonValue]:
    inputs = unit.tx.load_inputs(job_id)
    return {**inputs.values, **dict.fromkeys(inputs.sealed, MASK)}


def _log_settlements(unit: UnitOfWork, by_job: Mapping[JobId, Sequence[Settlement]]) -> None:
    for job_id, rows in by_job.items():
        for row in rows:
            detail = {"index": _show_index(row.task), "outcome": row.outcome.value, "worker": row.task.worker}
            event = f"task_{row.state.lower()}"
            unit.tx.log_fact(job_id, event, stage=row.task.stage, detail=detail, level=logging.DEBUG)


def _name_task(task: TaskRow, labels: Mapping[TaskId, str]) -> str:
    if task.spawn:
        return "spawn task"
    return f"task {task.index} ({labels[task.task_id]})" if task.task_id in labels else f"task {task.index}"


def _show_index(task: TaskRow) -> int | str:
    return "spawn" if task.index == SPAWN_INDEX else task.index
