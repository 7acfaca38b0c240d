"""Carries out verbs on chosen tasks of one stage, a hundred thousand at once or a single one.

The rows are changed by one statement for each range of indexes; what it will change is counted before, under the lock
of the job, and told to the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from echelon.controller.core.again import find_obstacle
from echelon.controller.core.answers import SPAWNED, Allowed, Kind, NoEffect, Refused, Verb, answer_verb
from echelon.controller.core.events import (
    Again,
    RetryRequested,
    SpawnTaskHeld,
    SpawnTaskMoved,
    TasksMoved,
    TasksSkipped,
    Together,
)
from echelon.controller.core.model import Job, Stage
from echelon.controller.core.states import ENDED, State, show_state
from echelon.controller.datastore.records import SPAWN_ONLY, TaskCount
from echelon.controller.engine.base.requests import WHOLE, Changed, Choice, UnchangedGroup, Who
from echelon.controller.engine.base.settle import Settler
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.shared.ablation import ablated
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId

#: A retry of the failures beside a skipped task does not undo the skip.
LEFT_SKIPPED = "it was skipped: name it, ask for the state SKIPPED, or for all"


@dataclass(frozen=True, slots=True)
class Aim:
    """The tasks of one stage that a verb is meant for."""

    job_id: JobId
    stage: int
    choice: Choice
    #: A task that was named itself, and not found by its state or its place.
    named: bool = False

    @property
    def spawn(self) -> bool:
        """Tell whether the stage's spawn task is meant."""
        return self.choice.spans == SPAWN_ONLY

    @property
    def only(self) -> State | None:
        """Return the state that chosen tasks are in; None: any."""
        return None if ablated("state_choice") else self.choice.state

    @property
    def of_one(self) -> bool:
        """Tell whether one task was named."""
        spans = self.choice.spans
        return self.named and spans is not None and len(spans) == 1 and spans[0][0] == spans[0][1]


class TaskVerbs:
    """Carries out verbs on chosen tasks, in a unit of work whose jobs are locked."""

    def __init__(self, settler: Settler) -> None:
        self._settler = settler

    def change_tasks(self, unit: UnitOfWork, verb: Verb, aims: Sequence[Aim], who: Who) -> Changed:
        """Do it to tasks of one job, and tell what it came to.

        They are chosen as they stand before anything is done: what it means for one stage is nothing that was asked of
        another.
        """
        found = [(aim, *split_by_answer(verb, aim, self.count_tasks(unit, aim))) for aim in aims]
        meant = [(aim, some) for aim, some, _ in found if some]
        if meant:
            self._carry_out(unit, verb, meant, who)
        for aim, some, changed in found:
            if some:
                remember_verb(unit, verb, aim, changed)
        return sum((changed for _, _, changed in found), Changed())

    def _carry_out(
        self, unit: UnitOfWork, verb: Verb, meant: Sequence[tuple[Aim, Sequence[TaskCount]]], who: Who
    ) -> None:
        job_id = meant[0][0].job_id
        match verb:
            case Verb.PAUSE:
                for aim, some in meant:
                    self._pause_tasks(unit, aim, some, who)
            case Verb.RESUME:
                for aim, some in meant:
                    self._resume_tasks(unit, aim, some)
            case Verb.CANCEL:
                unit.apply_event(
                    job_id, Together(tuple(self._cancel_tasks(unit, aim, some, who) for aim, some in meant))
                )
            case Verb.KILL:
                self._kill_tasks(unit, [aim for aim, _ in meant], who, again=False)
            case Verb.SKIP:
                unit.apply_event(job_id, Together(tuple(self._skip_tasks(unit, aim, some, who) for aim, some in meant)))
            case Verb.RETRY:
                self.retry_tasks(unit, meant, who)
            case _:
                raise ValueError(f"{verb} is not for tasks")

    def count_tasks(self, unit: UnitOfWork, aim: Aim) -> list[TaskCount]:
        """Count the tasks that are meant."""
        return unit.tx.count_tasks(aim.job_id, aim.stage, spans=aim.choice.spans, only=aim.only)

    def retry_tasks(self, unit: UnitOfWork, aims: Sequence[tuple[Aim, Sequence[TaskCount]]], who: Who) -> None:
        """Let tasks of several stages of one job run again, in one step of the machine."""
        if not aims:
            return
        job = unit.require_job(aims[0][0].job_id)
        agains = [
            again for aim, meant in aims if (again := _plan_retry(aim, meant, failing=job.stage(aim.stage).failing))
        ]
        running = [aim for aim, meant in aims if any(one.started for one in meant)]
        what = "the task" if len(aims) == 1 and aims[0][0].of_one else "the tasks"
        refuse_futile_retry(job, [*agains, *(Again(aim.stage, {}) for aim in running)], what)
        if running:
            self._kill_tasks(unit, running, who, again=True)
        if agains:
            unit.apply_event(job.job_id, RetryRequested(_one_of_each_stage(agains), whole=False))

    def _pause_tasks(self, unit: UnitOfWork, aim: Aim, meant: Sequence[TaskCount], who: Who) -> None:
        unit.tx.pause_tasks(aim.job_id, aim.stage, spans=aim.choice.spans, only=aim.only, by=who.name)
        if any(one.state is not _show(one) for one in meant):
            unit.recalled += unit.tx.list_given(aim.job_id, aim.stage, spans=aim.choice.spans)
        if aim.spawn:
            state = meant[0].state
            after = State.PENDING if state is State.QUEUED else state
            unit.apply_event(aim.job_id, SpawnTaskHeld(aim.stage, True, after))
            return
        queued, pending = _count_in(meant, State.QUEUED), _count_in(meant, State.PENDING)
        moves = {(State.QUEUED, State.PENDING): queued} if queued else {}
        unit.apply_event(aim.job_id, TasksMoved(aim.stage, moves, held=queued + pending))

    def _resume_tasks(self, unit: UnitOfWork, aim: Aim, meant: Sequence[TaskCount]) -> None:
        job = unit.require_job(aim.job_id)
        begun = job.stage(aim.stage).state is State.RUNNING
        unit.tx.resume_tasks(aim.job_id, aim.stage, spans=aim.choice.spans, only=aim.only, begun=begun)
        going = sum(one.count for one in meant if one.state is State.PENDING and not one.waits) if begun else 0
        if aim.spawn:
            unit.apply_event(aim.job_id, SpawnTaskHeld(aim.stage, False, State.QUEUED if going else meant[0].state))
            return
        moves = {(State.PENDING, State.QUEUED): going} if going else {}
        unit.apply_event(aim.job_id, TasksMoved(aim.stage, moves, held=-_count_in(meant, State.PENDING)))

    def _cancel_tasks(
        self, unit: UnitOfWork, aim: Aim, meant: Sequence[TaskCount], who: Who
    ) -> TasksMoved | SpawnTaskMoved:
        self._end_tasks(unit, aim, State.CANCELLED, who)
        if aim.spawn:
            return SpawnTaskMoved(aim.stage, State.CANCELLED)
        moves = {(state, State.CANCELLED): _count_in(meant, state) for state in {one.state for one in meant}}
        return TasksMoved(aim.stage, moves, held=-_count_held(meant), started=-_count_started(meant))

    def _skip_tasks(self, unit: UnitOfWork, aim: Aim, meant: Sequence[TaskCount], who: Who) -> TasksSkipped:
        self._end_tasks(unit, aim, State.SKIPPED, who)
        counts = {} if aim.spawn else {state: _count_in(meant, state) for state in {one.state for one in meant}}
        withdrawn = 0 if aim.spawn else _count_withdrawn(meant)
        held = 0 if aim.spawn else _count_held(meant)
        started = 0 if aim.spawn else _count_started(meant)
        return TasksSkipped(aim.stage, counts, held, withdrawn, started, spawn=aim.spawn)

    def _end_tasks(self, unit: UnitOfWork, aim: Aim, state: State, who: Who) -> None:
        told = unit.tx.end_tasks(aim.job_id, aim.stage, state, by=who.name, spans=aim.choice.spans, only=aim.only)
        unit.stop_attempts(told, state.lower())

    def _kill_tasks(self, unit: UnitOfWork, aims: Sequence[Aim], who: Who, *, again: bool) -> None:
        chosen = (unit.tx.load_started(aim.job_id, aim.stage, spans=aim.choice.spans) for aim in aims)
        running = [task for tasks in chosen for task in tasks]
        self._settler.kill_attempts(unit, running, who.name, again=again)

    def kill_all(
        self, unit: UnitOfWork, job_id: JobId, stages: Sequence[Stage], who: Who, *, again: bool = False
    ) -> int:
        """End whatever runs of some stages, spawn tasks included; return how many tasks that were."""
        running = [
            task
            for stage in stages
            for spans in (None, SPAWN_ONLY)
            for task in unit.tx.load_started(job_id, stage.number, spans=spans)
        ]
        self._settler.kill_attempts(unit, running, who.name, again=again)
        return len(running)


def refuse_futile_retry(job: Job, agains: Sequence[Again], what: str) -> None:
    """Raise Conflict when a job would end, or end again, before all of a retry could run."""
    stage = find_obstacle(job, agains)
    if stage is not None and not ablated("retry_refusal"):
        bad = "has failed, and its job ends for it"
        if job.state in ENDED:
            comes_before = any(stage.order < job.stage(again.stage).order for again in agains)
            bad = f"is {stage.state} and {'comes before it' if comes_before else 'would end the job again at once'}"
        remedy = "retry or skip that first"
        raise Conflict(f"{what} cannot be retried: stage {stage.number} ({stage.name}) {bad}: {remedy}")


def split_by_answer(verb: Verb, aim: Aim, found: Sequence[TaskCount]) -> tuple[list[TaskCount], Changed]:
    """Return which of these tasks a verb changes, and how many that are; and the others, with the reason of each."""
    meant, changed = [], Changed()
    for one in found:
        said = _answer_for(verb, aim, one)
        if isinstance(said, Allowed):
            meant.append(one)
            changed += Changed(tasks=one.count)
        else:
            changed += Changed(unchanged=(UnchangedGroup(said.reason, one.count, _show(one)),))
    return meant, changed


def _answer_for(verb: Verb, aim: Aim, one: TaskCount) -> Allowed | NoEffect | Refused:
    choice = aim.choice
    asked = aim.named or not choice.only_failed or one.state in (choice.state, State.FAILED, State.CANCELLED)
    if verb is Verb.RETRY and not asked:
        return NoEffect(LEFT_SKIPPED if one.state is State.SKIPPED else "it has not failed")
    if verb is Verb.RETRY and aim.spawn and one.state is State.COMPLETED:
        return NoEffect(SPAWNED)
    paused = one.hand and one.state not in ENDED
    misfit = one.misfit and not ablated("misfit_refusal")
    return answer_verb(Kind.TASK, _show(one), verb, paused=paused, everything=not choice.only_failed, misfit=misfit)


def _plan_retry(aim: Aim, meant: Sequence[TaskCount], *, failing: bool) -> Again | None:
    """Return what of these tasks opens again; `failing`: what is only killed would be withdrawn with the others."""
    ended = [one for one in meant if one.state in ENDED]
    if not ended:
        return Again(aim.stage, {}, spans=aim.choice.spans) if failing else None
    if aim.spawn:
        return Again(aim.stage, {}, spawn=True, spans=())
    counts = {state: _count_in(ended, state) for state in sorted({one.state for one in ended})}
    return Again(aim.stage, counts, withdrawn=_count_withdrawn(ended), spans=aim.choice.spans)


def _one_of_each_stage(agains: Sequence[Again]) -> tuple[Again, ...]:
    """Put what is meant of a stage's tasks and its spawn task together."""
    found: dict[int, Again] = {}
    for again in agains:
        other = found.get(again.stage, again)
        tasks = other if other.counts else again
        found[again.stage] = replace(tasks, spawn=again.spawn or other.spawn)
    return tuple(found.values())


def remember_verb(unit: UnitOfWork, verb: Verb, aim: Aim, changed: Changed) -> None:
    """Write down who did what to which tasks."""
    detail: dict[str, object] = {"tasks": changed.tasks}
    if aim.choice != WHOLE and aim.choice.spans is not None:
        spans = aim.choice.spans
        detail["index"] = "spawn" if aim.spawn else _spans_text(spans)
    if aim.choice.state is not None:
        detail["state"] = aim.choice.state
    unit.record_event(aim.job_id, f"tasks_{PAST[verb]}", aim.stage, **detail)


PAST = {
    Verb.PAUSE: "paused",
    Verb.RESUME: "resumed",
    Verb.CANCEL: "cancelled",
    Verb.KILL: "killed",
    Verb.RETRY: "retried",
    Verb.SKIP: "skipped",
}
#: Ranges that the history tells one by one.
_TOLD = 20


def _spans_text(spans: Sequence[tuple[int, int]]) -> str:
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans[:_TOLD]]
    return ",".join(texts) + (f" and {len(spans) - _TOLD} more" if len(spans) > _TOLD else "")


def _count_in(counted: Sequence[TaskCount], state: State) -> int:
    return sum(one.count for one in counted if one.state is state)


def _count_held(counted: Sequence[TaskCount]) -> int:
    return sum(one.count for one in counted if one.state is State.PENDING and one.hand)


def _show(one: TaskCount) -> State:
    """Return the state of counted tasks as people see it."""
    return show_state(one.state, started=one.started)


def _count_started(counted: Sequence[TaskCount]) -> int:
    return sum(one.count for one in counted if one.started)


def _count_withdrawn(counted: Sequence[TaskCount]) -> int:
    return sum(one.count for one in counted if one.state is State.CANCELLED and not one.hand)
