"""Live control: what people do to jobs, stages and tasks while they run. Each method is one transaction;
of a list of tasks there is one for each job.

Every change is a change in the store, under the lock of the job; workers are told after the commit, as a courtesy, and
hear it again when they want to renew the lease of an attempt that has lost its claim.

`etag` is what the caller has seen; when the thing has changed since, PreconditionFailed is raised and nothing happens.
A job's etag changes with all that shows in it, the counts of its stages among it; a stage's likewise: on a busy job
lock the task. A task's changes with its own row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from echelon.controller.core.answers import Allowed, Kind, Refused, Verb, answer_verb
from echelon.controller.core.events import (
    CancelRequested,
    Event,
    PauseRequested,
    PrioritySet,
    ResumeRequested,
    SkipRequested,
)
from echelon.controller.core.model import Job, Stage
from echelon.controller.core.states import State
from echelon.controller.datastore.records import SPAWN_ONLY, TaskRow
from echelon.controller.engine.base.requests import (
    SOMEBODY,
    WHOLE,
    Added,
    Changed,
    Choice,
    Given,
    Retried,
    RetriedTask,
    UnchangedGroup,
    Who,
    in_short,
)
from echelon.controller.engine.base.settle import Settler
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.control.adding import Adding
from echelon.controller.engine.control.opening import Opening
from echelon.controller.engine.control.retrying import EARLIER_RUN, Retrying, aim_at_tasks
from echelon.controller.engine.control.task_verbs import Aim, TaskVerbs
from echelon.controller.engine.dependencies import JobDependencies, stop_after_commit, stop_before_commit
from echelon.shared.ablation import ablated
from echelon.shared.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from echelon.shared.ids import JobId, TaskId

_NOTHING = Given()


class Control:
    """Pauses, resumes, cancels, kills, retries, skips and adds. Safe for any thread."""

    def __init__(self, parts: JobDependencies) -> None:
        self._parts = parts
        self._tasks = TaskVerbs(
            Settler(
                snapshots=parts.snapshots,
                counters=parts.counters,
                max_losses=parts.max_losses,
            )
        )
        self._again = Retrying(self._tasks, Opening(parts))
        self._adding = Adding(parts)

    # --- what the interface calls

    def change_job(
        self,
        verb: Verb,
        job_id: JobId,
        *,
        who: Who = SOMEBODY,
        etag: int | None = None,
        choice: Choice = WHOLE,
        given: Given = _NOTHING,
    ) -> Changed:
        """Do something to a job, or to the tasks of it that are chosen.

        Raises NotFound, PreconditionFailed; Conflict when its state forbids it; InvalidInputs when it opens again and
        needs values that were not given.
        """
        with self._parts.store.write() as tx:
            unit = UnitOfWork(tx, request_id=who.request_id)
            job = unit.require_job(job_id)
            check_etag(etag, lambda: tx.job_etag(job_id), f"job {job_id}")
            if choice.of_tasks:
                changed = self._change_chosen(unit, verb, job, job.stages, choice, who, given)
            else:
                changed = self._change_whole_job(unit, verb, job, choice, who, given)
            unit.save_jobs()
            stop_before_commit(verb)
        stop_after_commit(verb)
        self._parts.announce_changes(unit)
        return changed

    def change_stage(
        self,
        verb: Verb,
        job_id: JobId,
        stage: int,
        *,
        who: Who = SOMEBODY,
        etag: int | None = None,
        choice: Choice = WHOLE,
        given: Given = _NOTHING,
    ) -> Changed:
        """Do something to a stage, or to the tasks of it that are chosen; raises what `change_job` raises."""
        with self._parts.store.write() as tx:
            unit = UnitOfWork(tx, request_id=who.request_id)
            job = unit.require_job(job_id)
            found = _find_stage(job, stage)
            check_etag(etag, lambda: tx.stage_etag(job_id, stage), f"stage {stage} of job {job_id}")
            if choice.of_tasks:
                changed = self._change_chosen(unit, verb, job, (found,), choice, who, given)
            else:
                changed = self._change_whole_stage(unit, verb, job, found, choice, who, given)
            unit.save_jobs()
        self._parts.announce_changes(unit)
        return changed

    def change_task(
        self,
        verb: Verb,
        task_id: TaskId,
        *,
        who: Who = SOMEBODY,
        etag: int | None = None,
        only_failed: bool = True,
        downstream: bool = False,
        given: Given = _NOTHING,
    ) -> Changed:
        """Do something to one task, a spawn task included; raises what `change_job` raises."""
        with self._parts.store.write() as tx:
            unit = UnitOfWork(tx, request_id=who.request_id)
            task = _locked_tasks(unit, [task_id]).get(task_id)
            if task is None:
                raise NotFound(f"there is no task {task_id}")
            check_etag(etag, lambda: task.etag, f"task {task_id}")
            said = self._again.answer_for(unit, task, verb, everything=not only_failed)
            if isinstance(said, Refused):
                raise Conflict(f"the task cannot be {_PAST[verb]}: {said.reason}")
            before = unit.require_job(task.job_id)
            aims = aim_at_tasks([task], only_failed=only_failed, downstream=downstream)
            changed = self._again.act_and_reopen(
                unit, before, given, lambda: self._change_tasks(unit, verb, before, aims, who)
            )
            if changed == Changed():
                raise Conflict(f"the task cannot be {_PAST[verb]}: {EARLIER_RUN}")
            unit.save_jobs()
        self._parts.announce_changes(unit)
        return changed

    def retry_tasks(
        self,
        wanted: Mapping[TaskId, int | None],
        *,
        who: Who = SOMEBODY,
        downstream: bool = False,
        given: Given = _NOTHING,
    ) -> Retried:
        """Let tasks of any jobs run again, each only while it still has the etag that stands beside it (None: any).

        Tasks that cannot run again get a reason each and do not keep the others from running. Each job has a
        transaction of its own: one that cannot open again (it lacks a secret, or a task that is to run does) stays as
        it is.
        """
        told: dict[TaskId, RetriedTask] = {}
        behind = Changed()
        for task_ids in self._group_by_job(wanted):
            some = {task_id: wanted[task_id] for task_id in task_ids}
            retried = self._retry_listed(some, who, given, downstream=downstream)
            told |= {one.task_id: one for one in retried.tasks}
            behind += retried.behind
        return Retried(tuple(told[task_id] for task_id in wanted), behind)

    def _group_by_job(self, task_ids: Collection[TaskId]) -> list[list[TaskId]]:
        """Part tasks by their jobs; those that do not exist are together."""
        with self._parts.store.write() as tx:
            jobs = {task.task_id: task.job_id for task in tx.load_tasks(list(task_ids))}
        parted: dict[JobId | None, list[TaskId]] = {}
        for task_id in task_ids:
            parted.setdefault(jobs.get(task_id), []).append(task_id)
        return list(parted.values())

    def _retry_listed(
        self, wanted: Mapping[TaskId, int | None], who: Who, given: Given, *, downstream: bool
    ) -> Retried:
        """Retry tasks of one job; tell what became of each."""
        told: dict[TaskId, RetriedTask] = {}
        fit: list[TaskRow] = []
        reason, changed = None, Changed()
        try:
            with self._parts.store.write() as tx:
                unit = UnitOfWork(tx, request_id=who.request_id)
                found = _locked_tasks(unit, list(wanted))
                told = self._again.list_refused(unit, wanted, found)
                fit = [task for task_id, task in found.items() if task_id not in told]
                if fit:
                    changed = self._retry_fit(unit, fit, who, given, downstream=downstream)
                unit.save_jobs()
        except (Conflict, InvalidInput) as error:
            reason, changed = in_short(error), Changed()
        else:
            self._parts.announce_changes(unit)
        told |= {task.task_id: RetriedTask(task.task_id, reason, task.shown) for task in fit}
        return Retried(tuple(told.values()), Changed(stages=changed.stages, stale=changed.stale))

    def _retry_fit(
        self, unit: UnitOfWork, tasks: Sequence[TaskRow], who: Who, given: Given, *, downstream: bool
    ) -> Changed:
        """Raise Conflict and InvalidInput, also when the job was changed already: the transaction must not last."""
        before = unit.require_job(tasks[0].job_id)
        aims = aim_at_tasks(tasks, downstream=downstream)
        return self._again.act_and_reopen(
            unit, before, given, lambda: self._change_tasks(unit, Verb.RETRY, before, aims, who)
        )

    def add_tasks(
        self,
        job_id: JobId,
        stage: int,
        items: Sequence[object],
        *,
        who: Who = SOMEBODY,
        etag: int | None = None,
        paused: bool = False,
    ) -> Added:
        """Add a task for each item to a stage that has not begun or is paused; they are checked like spawned items.

        Raises NotFound, PreconditionFailed, Conflict, and InvalidInputs with a pointer into the list ("#/tasks/3/url").
        """
        planned = self._adding.plan_tasks(job_id, stage, items, paused_by=who.name if paused else None)
        with self._parts.store.write() as tx:
            unit = UnitOfWork(tx, request_id=who.request_id)
            found = _find_stage(unit.require_job(job_id), stage)
            check_etag(etag, lambda: tx.stage_etag(job_id, stage), f"stage {stage} of job {job_id}")
            added = self._adding.insert_tasks(unit, job_id, found, planned)
            unit.save_jobs()
        self._parts.announce_changes(unit)
        return added

    def set_priority(
        self,
        job_id: JobId,
        priority: int,
        *,
        stage: int | None = None,
        who: Who = SOMEBODY,
        etag: int | None = None,
    ) -> Changed:
        """Change the priority of the waiting tasks of a job, or of one stage of it; raises what `change_job` raises."""
        with self._parts.store.write() as tx:
            unit = UnitOfWork(tx, request_id=who.request_id)
            job = unit.require_job(job_id)
            if stage is None:
                check_etag(etag, lambda: tx.job_etag(job_id), f"job {job_id}")
                said, kind = answer_verb(Kind.JOB, job.state, Verb.PRIORITY), Kind.JOB
            else:
                found = _find_stage(job, stage)
                check_etag(etag, lambda: tx.stage_etag(job_id, stage), f"stage {stage} of job {job_id}")
                said, kind = answer_verb(Kind.STAGE, found.state, Verb.PRIORITY), Kind.STAGE
            if isinstance(said, Refused):
                raise Conflict(f"the {kind} cannot be {_PAST[Verb.PRIORITY]}: {said.reason}")
            unit.apply_event(job_id, PrioritySet(priority, stage))
            unit.save_jobs()
        self._parts.announce_changes(unit)
        return Changed(jobs=1) if stage is None else Changed(stages=1)

    # --- whole jobs and stages

    def _change_whole_job(
        self, unit: UnitOfWork, verb: Verb, job: Job, choice: Choice, who: Who, given: Given
    ) -> Changed:
        everything = not choice.only_failed
        said = answer_verb(Kind.JOB, job.state, verb, paused=job.paused, everything=everything)
        if not isinstance(said, Allowed):
            return _refuse_or_keep("job", verb, said, job.state)
        events: dict[Verb, Event] = {
            Verb.PAUSE: PauseRequested(who.name),
            Verb.RESUME: ResumeRequested(),
            Verb.CANCEL: CancelRequested(who.name),
            Verb.SKIP: SkipRequested(who.name),
        }
        if verb in events:
            return self._apply_event(unit, job, events[verb]) + Changed(jobs=1)
        if verb is Verb.KILL:
            return self._report_killed(
                unit, job.job_id, None, self._tasks.kill_all(unit, job.job_id, _list_running(job), who)
            )
        return self._again.retry_whole(unit, job, None, choice, who, given)

    def _change_whole_stage(
        self, unit: UnitOfWork, verb: Verb, job: Job, stage: Stage, choice: Choice, who: Who, given: Given
    ) -> Changed:
        everything, number = not choice.only_failed, stage.number
        said = answer_verb(Kind.STAGE, stage.state, verb, paused=stage.paused, everything=everything)
        if not isinstance(said, Allowed):
            return _refuse_or_keep("stage", verb, said, stage.state)
        events: dict[Verb, Event] = {
            Verb.PAUSE: PauseRequested(who.name, number),
            Verb.RESUME: ResumeRequested(number),
            Verb.CANCEL: CancelRequested(who.name, number),
            Verb.SKIP: SkipRequested(who.name, number),
        }
        if verb in events:
            return self._again.act_and_reopen(
                unit, job, given, lambda: self._apply_event(unit, job, events[verb], number) + Changed(stages=1)
            )
        if verb is Verb.KILL:
            return self._report_killed(unit, job.job_id, number, self._tasks.kill_all(unit, job.job_id, (stage,), who))
        return self._again.retry_whole(unit, job, stage, choice, who, given)

    def _apply_event(self, unit: UnitOfWork, before: Job, event: Event, stage: int | None = None) -> Changed:
        """Let the machine carry out a verb; return how many tasks it has cancelled or skipped."""
        after = unit.apply_event(before.job_id, event)
        if not isinstance(event, CancelRequested | SkipRequested):
            return Changed()
        target = State.CANCELLED if isinstance(event, CancelRequested) else State.SKIPPED
        chosen = after.stages if stage is None else (after.stage(stage),)
        return Changed(tasks=sum(_count_growth(before.stage(one.number), one, target) for one in chosen))

    def _report_killed(self, unit: UnitOfWork, job_id: JobId, stage: int | None, killed: int) -> Changed:
        if not killed:
            return Changed(unchanged=(UnchangedGroup("nothing of it runs", 1),))
        unit.record_event(job_id, "job_killed" if stage is None else "stage_killed", stage, tasks=killed)
        return Changed(tasks=killed)

    # --- chosen tasks

    def _change_chosen(
        self, unit: UnitOfWork, verb: Verb, job: Job, stages: Sequence[Stage], choice: Choice, who: Who, given: Given
    ) -> Changed:
        aims = [Aim(job.job_id, stage.number, choice) for stage in stages]
        if choice.spans is None:
            spawn = replace(choice, spans=SPAWN_ONLY)
            aims += [Aim(job.job_id, stage.number, spawn) for stage in stages if stage.spawn is not None]

        return self._again.act_and_reopen(unit, job, given, lambda: self._change_tasks(unit, verb, job, aims, who))

    def _change_tasks(self, unit: UnitOfWork, verb: Verb, before: Job, aims: Sequence[Aim], who: Who) -> Changed:
        changed = self._tasks.change_tasks(unit, verb, aims, who)
        if verb is not Verb.RETRY or changed == Changed():
            return changed
        choice = aims[0].choice
        numbers = {aim.stage for aim in aims}
        stage = numbers.pop() if choice.downstream and len(numbers) == 1 else None
        return self._again.retry_behind(unit, before, changed, choice, stage)


_PAST = {
    Verb.PAUSE: "paused", Verb.RESUME: "resumed", Verb.CANCEL: "cancelled", Verb.KILL: "killed", Verb.RETRY: "retried",
    Verb.SKIP: "skipped", Verb.ADD: "given tasks", Verb.PRIORITY: "given a priority",
}  # fmt: skip


def check_etag(expected: int | None, etag: Callable[[], int], what: str) -> None:
    """Raise PreconditionFailed if the expected etag is not the present one."""
    if expected is not None and expected != (found := etag()) and not ablated("etag_check"):
        raise PreconditionFailed(f"{what} has changed since it was read: its etag was {expected} and is {found}")


def _find_stage(job: Job, number: int) -> Stage:
    if not 0 <= number < len(job.stages):
        raise NotFound(f"job {job.job_id} has no stage {number}: they are numbered from 0 to {len(job.stages) - 1}")
    return job.stage(number)


def _list_running(job: Job) -> list[Stage]:
    return [stage for stage in job.stages if stage.state is State.RUNNING]


def _locked_tasks(unit: UnitOfWork, task_ids: Sequence[TaskId]) -> dict[TaskId, TaskRow]:
    """Lock the jobs of tasks and return the tasks as they stand then."""
    unit.lock_jobs({task.job_id for task in unit.tx.load_tasks(task_ids)})
    return {task.task_id: task for task in unit.tx.load_tasks(task_ids)}


def _refuse_or_keep(kind: str, verb: Verb, said: object, state: State) -> Changed:
    assert not isinstance(said, Allowed)
    if isinstance(said, Refused):
        raise Conflict(f"the {kind} cannot be {_PAST[verb]}: {said.reason}")
    return Changed(unchanged=(UnchangedGroup(str(getattr(said, "reason", "")), 1, state),))


def _count_growth(before: Stage, after: Stage, target: State) -> int:
    word = target.lower()
    grown: int = getattr(after.tally, word) - getattr(before.tally, word)
    return grown + int(after.spawn is target and before.spawn is not target)
