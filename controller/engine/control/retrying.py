"""Retries: of a whole job or stage, of chosen tasks, of a list of tasks; and ended jobs that open again for it.

The jobs are locked in the unit of work, by `control`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from echelon.controller.core.again import (
    Misfits,
    list_downstream,
    plan_downstream,
    plan_job_retry,
    plan_stage_retry,
)
from echelon.controller.core.answers import MISFIT, SPAWNED, Allowed, Answer, Kind, Refused, Verb, answer_verb
from echelon.controller.core.events import Again, RetryRequested
from echelon.controller.core.model import Job, Source, Stage
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.records import SPAWN_INDEX, TaskRow
from echelon.controller.engine.base.requests import WHOLE, Changed, Choice, Given, RetriedTask, UnchangedGroup, Who
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.control.opening import Opening
from echelon.controller.engine.control.task_verbs import LEFT_SKIPPED, Aim, TaskVerbs, refuse_futile_retry
from echelon.shared.ablation import ablated
from echelon.shared.errors import Conflict
from echelon.shared.ids import TaskId

STALE = "it has changed since it was read"
EARLIER_RUN = "it belongs to an earlier run of its stage"


class Retrying:
    """Lets things run again. Safe for any thread."""

    def __init__(self, tasks: TaskVerbs, opening: Opening) -> None:
        self._tasks = tasks
        self._opening = opening

    # --- a job or a stage

    def retry_whole(
        self, unit: UnitOfWork, job: Job, stage: Stage | None, choice: Choice, who: Who, given: Given
    ) -> Changed:
        """Retry a stage of a job, or (None) the job."""
        everything, downstream = not choice.only_failed, choice.downstream
        stages = job.stages if stage is None else (stage,)
        misfits = self._count_misfits(unit, job, [one.number for one in stages])
        running = [one for one in stages if everything and _is_running(one)]
        meant = [*_plan_retries(job, stage, everything, misfits), *(Again(one.number, {}) for one in running)]
        if not meant and (not downstream or stage is None):
            return Changed(unchanged=(UnchangedGroup(_explain_nothing(misfits), 1),))
        # Before anything is killed: that may end the job, and what ends it would not be seen any more.
        refuse_futile_retry(job, meant, "the job" if stage is None else "the stage")
        killed = self._tasks.kill_all(unit, job.job_id, running, who, again=True)
        present = unit.require_job(job.job_id)
        agains = _plan_retries(present, stage, everything, misfits)
        # Counted as they were: what is killed may be withdrawn with its job for a moment, and is one task all the same.
        tasks = killed + sum(sum(again.counts.values()) + again.spawn for again in meant)

        def apply() -> None:
            unit.apply_event(job.job_id, RetryRequested(agains, whole=stage is None))
            if stage is not None:
                unit.record_event(job.job_id, "stage_retried", stage.number, tasks=tasks)
            elif job.state not in ENDED:
                unit.record_event(job.job_id, "tasks_retried", tasks=tasks)

        left = _list_left(present, agains, misfits)
        changed = Changed(tasks=tasks, stages=len(agains), jobs=int(stage is None), unchanged=left)

        def act() -> Changed:
            if meant:
                apply()
            return self.retry_behind(unit, job, changed, choice, stage.number if stage is not None else None)

        return self.act_and_reopen(unit, job, given, act)

    def _count_misfits(self, unit: UnitOfWork, job: Job, numbers: Sequence[int]) -> dict[int, Counter[State]]:
        """Count the tasks that can never run, of those stages that may have some."""
        found: dict[int, Counter[State]] = {}
        for number in numbers:
            stage = job.stage(number)
            if stage.source is not Source.SPAWN or not (stage.tally.failed or stage.tally.skipped):
                continue
            counts: Counter[State] = Counter()
            for one in self._tasks.count_tasks(unit, Aim(job.job_id, number, WHOLE)):
                if one.misfit:
                    counts[one.state] += one.count
            if counts:
                found[number] = counts
        return found

    # --- a list of tasks

    def list_refused(
        self,
        unit: UnitOfWork,
        wanted: Mapping[TaskId, int | None],
        found: Mapping[TaskId, TaskRow],
    ) -> dict[TaskId, RetriedTask]:
        """Tell which of a list of tasks of one job cannot run again, each asked for with the etag beside it."""
        told = {task_id: RetriedTask(task_id, "there is no such task") for task_id in wanted if task_id not in found}
        for task_id, task in found.items():
            reason = self._explain_refusal(unit, task, wanted[task_id])
            if reason is not None:
                told[task_id] = RetriedTask(task_id, reason, task.shown)
        return told

    def _explain_refusal(self, unit: UnitOfWork, task: TaskRow, etag: int | None) -> str | None:
        if etag is not None and etag != task.etag and not ablated("listed_etag"):
            return STALE
        said = self.answer_for(unit, task, Verb.RETRY)
        if isinstance(said, Allowed) and unit.require_job(task.job_id).stage(task.stage).run > 1:
            aim = Aim(task.job_id, task.stage, Choice(spans=((task.index, task.index),)))
            return None if self._tasks.count_tasks(unit, aim) else EARLIER_RUN
        return None if isinstance(said, Allowed) else said.reason

    def answer_for(self, unit: UnitOfWork, task: TaskRow, verb: Verb, *, everything: bool = False) -> Answer:
        """Return what a verb means for a task; `everything`: a retry is meant for what has completed too."""
        if verb is Verb.RETRY and task.index == SPAWN_INDEX and task.state is State.COMPLETED:
            return Refused(SPAWNED)
        misfit = verb is Verb.RETRY and self._is_misfit(unit, task)
        return answer_verb(Kind.TASK, task.shown, verb, paused=task.paused, everything=everything, misfit=misfit)

    def _is_misfit(self, unit: UnitOfWork, task: TaskRow) -> bool:
        """Tell whether a task can never run because its item did not fit."""
        if task.attempt or task.state not in (State.FAILED, State.SKIPPED):
            return False
        choice = Choice(spans=((task.index, task.index),))
        return any(one.misfit for one in self._tasks.count_tasks(unit, Aim(task.job_id, task.stage, choice)))

    # --- opening again

    def act_and_reopen(self, unit: UnitOfWork, before: Job, given: Given, act: Callable[[], Changed | None]) -> Changed:
        """Do something; a job that it opens again is given its values."""
        changed = act()
        self._opening.give_inputs(unit, before, given)
        return changed or Changed()

    # --- the stages behind

    def retry_behind(
        self, unit: UnitOfWork, before: Job, changed: Changed, choice: Choice, stage: int | None
    ) -> Changed:
        """Let the stages behind a retry begin their next run if that is wanted; if not, tell of those that have run.

        Behind: after `stage`, or (None) after the first stage that the retry has changed. Raises Conflict while
        attempts of those stages may run.
        """
        job = unit.require_job(before.job_id)
        touched = [one.order for one in job.stages if _has_moved(before.stage(one.number), one)]
        if stage is not None:
            touched = [job.stage(stage).order]
        if not touched:
            return changed
        if not choice.downstream:
            stale = [one for one in list_downstream(job, min(touched)) if _is_kept(before.stage(one.number), one)]
            return changed + Changed(stale=len(stale)) if changed.tasks else changed
        agains = plan_downstream(job, min(touched))
        if not agains:
            return changed
        refuse_futile_retry(job, agains, "the stages behind it")
        for again in agains:
            self._refuse_running(unit, job, job.stage(again.stage))
        unit.apply_event(job.job_id, RetryRequested(agains, whole=False))
        return changed + Changed(stages=len(agains))

    def _refuse_running(self, unit: UnitOfWork, job: Job, stage: Stage) -> None:
        name = f"stage {stage.number} ({stage.name})"
        if stage.tally.running or stage.spawn is State.RUNNING:
            raise Conflict(f"{name} runs and cannot begin its next run: cancel it first, or retry when it has ended")
        ended = self._tasks.count_tasks(unit, Aim(job.job_id, stage.number, WHOLE))
        if any(one.waits and one.state in ENDED for one in ended):
            raise Conflict(f"ended attempts of {name} may still be there: try again in a moment")


def aim_at_tasks(tasks: Sequence[TaskRow], *, only_failed: bool = True, downstream: bool = False) -> list[Aim]:
    """Return the aims of a verb for these tasks of one job."""
    aims = []
    for number, spawn in sorted({(task.stage, task.spawn) for task in tasks}):
        indexes = sorted(task.index for task in tasks if (task.stage, task.spawn) == (number, spawn))
        choice = Choice(spans=_merge_spans(indexes), only_failed=only_failed, downstream=downstream)
        aims.append(Aim(tasks[0].job_id, number, choice, named=True))
    return aims


def _is_running(stage: Stage) -> bool:
    return stage.tally.shown.running > 0 or stage.shown_spawn is State.RUNNING


def _has_moved(before: Stage, after: Stage) -> bool:
    """Tell whether a retry runs something of a stage again."""
    return after.tally.open > before.tally.open or (after.spawning and not before.spawning)


def _is_kept(before: Stage, after: Stage) -> bool:
    """Tell whether a stage keeps what it has done although something before it runs again."""
    return not _has_moved(before, after) and bool(after.tally.completed or after.spawn is State.COMPLETED)


def _plan_retries(job: Job, stage: Stage | None, everything: bool, misfits: Misfits) -> tuple[Again, ...]:
    if stage is None:
        return plan_job_retry(job, everything=everything, misfits=misfits)
    again = plan_stage_retry(job.stage(stage.number), everything=everything, misfits=misfits.get(stage.number, {}))
    return (again,) if again else ()


def _explain_nothing(misfits: Misfits) -> str:
    failed = sum(counts.get(State.FAILED, 0) for counts in misfits.values())
    if not failed:
        return "nothing of it has failed or was cancelled"
    items, them = ("the item of 1 task", "it") if failed == 1 else (f"the items of {failed} tasks", "them")
    return f"nothing of it can run again: {items} did not fit; skip {them}"


def _list_left(job: Job, agains: Sequence[Again], misfits: Misfits) -> tuple[UnchangedGroup, ...]:
    """Report the skipped tasks of reopened stages, which stay as they are."""
    left = Changed()
    for again in agains:
        mine = misfits.get(again.stage, {})
        for state, count in sorted(mine.items()):
            left += Changed(unchanged=(UnchangedGroup(MISFIT, count, state),))
        skipped = job.stage(again.stage).tally.skipped - mine.get(State.SKIPPED, 0)
        if skipped and State.SKIPPED not in again.counts:
            left += Changed(unchanged=(UnchangedGroup(LEFT_SKIPPED, skipped, State.SKIPPED),))
    return left.unchanged


def _merge_spans(indexes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    spans: list[tuple[int, int]] = []
    for index in indexes:
        if spans and (spans[-1][1] + 1 == index or ablated("listed_gaps")):
            spans[-1] = (spans[-1][0], index)
        else:
            spans.append((index, index))
    return tuple(spans)
