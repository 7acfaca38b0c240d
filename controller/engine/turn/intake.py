"""Take in what workers report: results, attempts handed back, signs of life. All of a turn in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from echelon.controller.core.events import SpawnTaskMoved, TasksMoved
from echelon.controller.core.states import State
from echelon.controller.datastore.records import TaskRow
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.settle import Ending, Settler
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.liveness.expired import describe_loss
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import AttemptRef, Finished, Outcome, Report, Stop

#: A worker that is buried or says goodbye may hold no more than its slots and its look-ahead.
_HELD_AT_MOST = 10_000


@dataclass(slots=True)
class IntakeResult:
    """The result of a turn's reports."""

    #: Attempts that a worker believes to hold and does not.
    stops: list[tuple[WorkerId, Stop]] = field(default_factory=list)
    #: Workers whose leases were renewed, with the number of the report that asked.
    renewed: dict[WorkerId, int] = field(default_factory=dict)
    #: For how many seconds.
    lease: float = 0.0
    #: Heartbeats that were not carried out before.
    heard: list[Report] = field(default_factory=list)
    #: Attempts whose ends were written.
    settled: int = 0
    #: Starts that are not written yet, each with the seconds for which the task has run.
    started: list[tuple[WorkerId, AttemptRef, float]] = field(default_factory=list)
    #: The store's time at which the next retry is due, if this turn made one.
    due: float | None = None


class Intake:
    """Carries out reports inside a transaction that its caller holds."""

    def __init__(self, *, settler: Settler, counters: Counters, lease: float) -> None:
        self._settler = settler
        self._counters = counters
        self._lease = lease

    def settle_reports(self, unit: UnitOfWork, reports: Sequence[Report], *, more: float = 0.0) -> IntakeResult:
        """Carry out reports, in their order; leases are renewed for so many seconds more than usual."""
        taken = IntakeResult()
        # Jobs are locked before tasks and tasks before workers, here and everywhere, and a renewal never waits: two
        # controllers never wait for each other.
        endings = self._find_endings(unit, reports, taken)
        taken.settled = len(endings)
        due = self._settler.settle_attempts(unit, endings) if endings else None
        taken.due = due if taken.due is None else taken.due
        taken.heard = _select_fresh(unit, reports)
        for report in taken.heard:
            self._renew_leases(unit, report, taken, lease=self._lease + more)
        return taken

    def mark_started(self, unit: UnitOfWork, taken: IntakeResult) -> None:
        """Write which tasks have started: never more than a worker has slots. Lock the workers' rows before.

        The end of the task before may be in a report that another controller reads. The worker's next heartbeat tells
        again of those that are left out.
        """
        if not taken.started:
            return
        tasks = {task.task_id: task for task in unit.tx.load_tasks({ref.task_id for _, ref, _ in taken.started})}
        room = unit.tx.count_start_room({worker for worker, _, _ in taken.started})
        marked: list[tuple[TaskRow, float]] = []
        for worker, ref, seconds in taken.started:
            task = tasks.get(ref.task_id)
            if task is None or task.started or not _holds(task, worker, ref) or unit.find_job(task.job_id) is None:
                continue
            if room.get(worker, 0) > 0 or ablated("start_room"):
                room[worker] = room.get(worker, 0) - 1
                marked.append((task, unit.tx.now() - seconds))
        unit.tx.mark_started(marked)
        counts = Counter((task.job_id, task.stage) for task, _ in marked if not task.spawn)
        for (job_id, stage), count in counts.items():
            unit.apply_event(job_id, TasksMoved(stage, {}, started=count))
        for task, _ in marked:
            if task.spawn:
                unit.apply_event(task.job_id, SpawnTaskMoved(task.stage, State.RUNNING, started=True))

    def record_heartbeats(self, unit: UnitOfWork, reports: Sequence[Report], heard: Sequence[Report]) -> None:
        """Note the workers' signs of life and ends. Their rows have been locked, all of them in one order."""
        for report in sorted(heard, key=lambda report: report.worker):
            if report.card is not None:
                running = report.running if report.started is None else report.started
                unit.tx.record_heartbeat(report.worker, report.card, running=len(running or ()))
        departed = find_departed(reports)
        if departed:
            unit.tx.deregister_workers(departed)

    def _find_endings(self, unit: UnitOfWork, reports: Sequence[Report], taken: IntakeResult) -> list[Ending]:
        """Return the attempts that ended or came back, once each, as far as they still hold their claim."""
        said: dict[AttemptRef, tuple[WorkerId, Finished]] = {}
        for report in reports:
            for finished in report.finished:
                said.setdefault(AttemptRef(finished.task_id, finished.attempt), (report.worker, finished))
        back = [(report.worker, ref) for report in reports for ref in report.released]
        orphans = self._find_orphans(unit, reports)
        known = unit.tx.load_tasks({ref.task_id for _, ref in back}) if back else []
        jobs = {task.job_id: None for task in [*known, *self._find_starts(unit, reports, said, taken)]}
        unit.lock_jobs([finished.job_id for _, finished in said.values()] + list(jobs) + list(orphans.values()))
        tasks = {task.task_id: task for task in self._find_held(unit, said, back, orphans)}
        for worker, ref in back:
            said.setdefault(ref, (worker, _make_ending(tasks.get(ref.task_id), ref, Outcome.INTERRUPTED)))
        endings = [
            ending for ref, (worker, finished) in said.items() if (ending := _match_claim(tasks, worker, finished))
        ]
        self._counters.stale.inc(len(said) - len(endings))
        self._note_gone(unit, tasks, said, taken)
        settled = {ending.task.task_id for ending in endings}
        for task_id in orphans.keys() - settled:
            task = tasks.get(task_id)
            if task is not None and task.state is State.RUNNING and task.worker in find_departed(reports):
                endings.append(Ending(task, _end_orphan(task, reports), doubtful=True))
        return endings

    def _find_starts(
        self, unit: UnitOfWork, reports: Sequence[Report], said: Collection[AttemptRef], taken: IntakeResult
    ) -> list[TaskRow]:
        """Note the starts that are not written yet, and return their tasks; those of `said` have ended meanwhile."""
        told = {ref: start for ref, start in _list_starts(reports).items() if ref not in said}
        found = []
        for task in unit.tx.load_tasks({ref.task_id for ref in told}) if told else []:
            start = told.get(AttemptRef(task.task_id, task.attempt))
            if start is not None and not task.started and _holds(task, start[0], start[1]):
                taken.started.append(start)
                found.append(task)
        return found

    def _note_gone(
        self,
        unit: UnitOfWork,
        tasks: Mapping[TaskId, TaskRow],
        said: Mapping[AttemptRef, tuple[WorkerId, Finished]],
        taken: IntakeResult,
    ) -> None:
        """Note that nothing is left of attempts without a claim; one whose start is news was an attempt."""
        now = unit.tx.now()
        over = [
            (task, finished) for ref, (worker, finished) in said.items() if (task := _match_ended(tasks, ref, worker))
        ]
        if over:
            unit.tx.clear_leases([task for task, _ in over])
            taken.due = now
        late = [(task, now - one.seconds) for task, one in over if one.begun and task.started_at is None]
        unit.tx.count_late_starts(late)

    def _find_orphans(self, unit: UnitOfWork, reports: Sequence[Report]) -> dict[TaskId, JobId]:
        departed = find_departed(reports)
        if not departed:
            return {}
        return {task_id: job_id for job_id, task_id in unit.tx.running_on(departed, limit=_HELD_AT_MOST)}

    def _find_held(
        self,
        unit: UnitOfWork,
        said: Iterable[AttemptRef],
        back: Iterable[tuple[WorkerId, AttemptRef]],
        orphans: Iterable[TaskId],
    ) -> list[TaskRow]:
        wanted = {ref.task_id for ref in said} | {ref.task_id for _, ref in back} | set(orphans)
        return unit.tx.load_tasks(wanted) if wanted else []

    def _renew_leases(self, unit: UnitOfWork, report: Report, taken: IntakeResult, *, lease: float) -> None:
        running = report.running or ()
        kept = unit.tx.renew_leases(report.worker, running, lease=lease) if running else set()
        ended = {AttemptRef(finished.task_id, finished.attempt) for finished in report.finished}
        missing = [ref for ref in running if ref not in kept and ref not in ended]
        if missing and ablated("renewal_refusal"):
            missing = []
        still = self._still_held(unit, report.worker, missing) if missing else set()
        for ref in missing:
            if ref not in still:
                taken.stops.append((report.worker, Stop(ref.task_id, ref.attempt, "claim_lost")))
        if not still:
            taken.renewed[report.worker] = report.number
            taken.lease = lease

    def _still_held(self, unit: UnitOfWork, worker: WorkerId, refs: Iterable[AttemptRef]) -> set[AttemptRef]:
        """Return the attempts that could not be renewed only because another transaction is at work on them.

        Their end is not known yet: the next report that names them settles it.
        """
        tasks = unit.tx.load_tasks({ref.task_id for ref in refs})
        return {
            AttemptRef(task.task_id, task.attempt)
            for task in tasks
            if task.state is State.RUNNING and task.worker == worker
        }


def _select_fresh(unit: UnitOfWork, reports: Sequence[Report]) -> list[Report]:
    """Return the heartbeats that were certainly not carried out before: each has a greater number than the last one.

    A message that is sent again, by the broker or by another program that has seen it, must not keep a dead worker's
    leases alive.
    """
    beats = [report for report in reports if report.running is not None]
    known = unit.tx.find_capacities({report.worker for report in beats}) if beats else {}
    return [
        report
        for report in beats
        if ablated("repeated_heartbeats")
        or report.worker not in known
        or report.number > known[report.worker].heartbeat
    ]


def find_departed(reports: Iterable[Report]) -> set[WorkerId]:
    """Return the workers that have said goodbye or are known to be dead."""
    departed: set[WorkerId] = set()
    for report in reports:
        if report.buried and not ablated("dead_incarnations"):
            departed.update(report.buried)
        if report.goodbye:
            departed.add(report.worker)
    return departed


def _list_starts(reports: Iterable[Report]) -> dict[AttemptRef, tuple[WorkerId, AttemptRef, float]]:
    """Return what workers tell of starts; one of an earlier release tells of what it holds alone."""
    found: dict[AttemptRef, tuple[WorkerId, AttemptRef, float]] = {}
    for report in reports:
        for one in report.started or ():
            ref = AttemptRef(one.task_id, one.attempt)
            found[ref] = report.worker, ref, one.seconds
        if report.started is None:
            found.update((ref, (report.worker, ref, 0.0)) for ref in report.running or ())
    return found


def _holds(task: TaskRow, worker: WorkerId, ref: AttemptRef) -> bool:
    return task.state is State.RUNNING and task.worker == worker and task.attempt == ref.attempt


def _match_claim(tasks: dict[TaskId, TaskRow], worker: WorkerId, finished: Finished) -> Ending | None:
    """Return the ending if the attempt still holds its claim; its own job's id is the store's, not the report's."""
    task = tasks.get(finished.task_id)
    if task is None or task.job_id != finished.job_id:
        return None
    if task.state is not State.RUNNING:
        return None
    if (task.attempt != finished.attempt or task.worker != worker) and not ablated("attempt_guard"):
        return None
    return Ending(task, finished)


def _match_ended(tasks: Mapping[TaskId, TaskRow], ref: AttemptRef, worker: WorkerId) -> TaskRow | None:
    """Return the task if a person has ended just this attempt: its worker says that nothing of it is there any more."""
    task = tasks.get(ref.task_id)
    if task is None or task.state is State.RUNNING or task.attempt != ref.attempt or task.worker != worker:
        return None
    return task


def _make_ending(task: TaskRow | None, ref: AttemptRef, outcome: Outcome) -> Finished:
    job_id = task.job_id if task else JobId("")
    return Finished(job_id=job_id, task_id=ref.task_id, attempt=ref.attempt, outcome=outcome, begun=False)


def _end_orphan(task: TaskRow, reports: Iterable[Report]) -> Finished:
    """Return the end of an attempt whose worker is gone: handed back by a goodbye, lost by a death."""
    polite = any(report.goodbye and report.worker == task.worker for report in reports)
    outcome = Outcome.INTERRUPTED if polite else Outcome.LOST
    error = None if polite else describe_loss(task, "the worker was lost while it ran this attempt")
    return Finished(task.job_id, task.task_id, task.attempt, outcome, error=error, begun=False)
