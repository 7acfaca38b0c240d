"""The records that the core reasons about: a job, its stages, and counts of tasks instead of tasks.

Nothing here grows with the number of tasks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from enum import StrEnum
from typing import Self

import msgspec
from msgspec.structs import force_setattr, replace

from echelon.controller.core.states import (
    DONE,
    ENDED,
    JOB_TRANSITIONS,
    STAGE_TRANSITIONS,
    TASK_TRANSITIONS,
    State,
    check_transition,
    show_state,
)
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId


class Source(StrEnum):
    """Where the tasks of a stage come from."""

    #: Known when the job is submitted.
    FIXED = "fixed"
    #: A spawn task's spawn.json.
    SPAWN = "spawn"
    #: Clients that add some while the job is open.
    OPEN = "open"


class OnError(StrEnum):
    """The effect of a failed task on its job; a task that a person has cancelled holds up its stage too."""

    FAIL_JOB = "fail_job"
    IGNORE = "ignore"
    #: Its siblings go on; then the job waits for a person who retries or skips it.
    BLOCK = "block"


class Tally(msgspec.Struct, frozen=True):
    """How many tasks of a stage are in each state; the spawn task is not counted."""

    pending: int = 0
    queued: int = 0
    #: Held by workers: started there, or given ahead and still waiting for a slot.
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    #: How many of the pending ones are paused.
    held: int = 0
    #: How many of the cancelled ones no person has cancelled: they end with their stage, and begin again with it.
    withdrawn: int = 0
    #: How many of the running ones have started, as far as their workers have told.
    started: int = 0

    @property
    def given(self) -> int:
        """Return how many wait for a slot at a worker: people see them as QUEUED."""
        return max(0, self.running - self.started)

    @property
    def shown(self) -> Self:
        """Return the counts as people see them."""
        return replace(self, queued=self.queued + self.given, running=self.running - self.given)

    @property
    def open(self) -> int:
        """Return how many have not ended."""
        return self.pending + self.queued + self.running

    @property
    def total(self) -> int:
        """Return how many there are."""
        return self.open + self.completed + self.failed + self.cancelled + self.skipped

    @property
    def left(self) -> int:
        """Return how many a person has cancelled."""
        return self.cancelled - self.withdrawn

    def move_tasks(self, source: State, target: State, count: int) -> Self:
        """Return the tally after `count` tasks went from one state to another; a count never goes below 0."""
        check_transition(TASK_TRANSITIONS, "a task", source, target)
        left = getattr(self, source.lower()) - count
        if left < 0:
            raise ValueError(f"{count} tasks cannot leave {source}: the tally is {self}")
        if source is target:
            return self
        return replace(self, **{source.lower(): left, target.lower(): getattr(self, target.lower()) + count})

    def move_all(self, sources: Collection[State], target: State) -> Self:
        """Return the tally after all tasks in some states went to another."""
        tally = self
        for source in sources:
            count = getattr(self, source.lower())
            if count:
                tally = tally.move_tasks(source, target, count)
        return tally.add_started(0)

    def add_started(self, change: int) -> Self:
        """Return the tally after so many more, or below 0 fewer, of the running ones have started.

        A controller of an earlier release moves tasks without counting this: it never exceeds the running ones.
        """
        started = max(0, min(self.running, self.started + change))
        return self if started == self.started else replace(self, started=started)

    def add_tasks(self, state: State, count: int) -> Self:
        """Return the tally with `count` more tasks in a state."""
        return replace(self, **{state.lower(): getattr(self, state.lower()) + count})


class Stage(msgspec.Struct, frozen=True):
    """A step of a job."""

    #: Place in the job, from 0.
    number: int
    #: Stages of equal order run at the same time; the next order waits for all of them.
    order: int
    name: str
    source: Source
    on_error: OnError
    #: Queue of its tasks.
    queue: str = "default"
    #: Queue of its spawn task.
    spawn_queue: str | None = None
    #: At most so many of its tasks run at once.
    max_parallel: int | None = None
    #: Stop running siblings too when a task has failed the job.
    fail_fast: bool = False
    #: So many of its tasks may fail: a number, or a share of all like "5%". None: what `on_error` says.
    max_failed: int | str | None = None
    #: Which tasks of a queue go first: from 0 to 9, higher first. Of its tasks, and of its spawn task.
    priority: int = 0
    spawn_priority: int = 0
    state: State = State.PENDING
    tally: Tally = Tally()
    #: State of the spawn task; None when the stage has none.
    spawn: State | None = None
    #: How many tasks the stage will have; None until its spawn task has told.
    expected: int | None = None
    #: A sentence for people: why the stage failed.
    error: str | None = None
    #: The person who paused, cancelled or skipped it; None: no person.
    by: str | None = None
    #: A failure of one of its tasks fails the job: nothing of it starts any more.
    failing: bool = False
    #: Nothing of it starts for the moment: the job is paused, or a stage before it has been opened again.
    blocked: bool = False
    #: A person has paused, cancelled or skipped its spawn task.
    spawn_hand: bool = False
    #: How many of its tasks were added by hand.
    added: int = 0
    #: Number of its present run, from 1: a retry of what comes before it may begin the next one.
    run: int = 1
    #: The index of its next task is so much more than the number of its tasks: those of earlier runs keep theirs.
    shift: int = 0
    #: The spawn task that is RUNNING has started.
    spawn_started: bool = False
    #: It has run: attempts of its tasks may be there, also when it has ended and is opened again.
    begun: bool = False

    @property
    def paused(self) -> bool:
        """Tell whether a person holds it back."""
        return self.by is not None and self.state not in ENDED

    @property
    def shown_spawn(self) -> State | None:
        """Return the state of its spawn task as people see it."""
        return None if self.spawn is None else show_state(self.spawn, started=self.spawn_started)

    @property
    def given(self) -> bool:
        """Tell whether workers hold tasks of it that have not started, the spawn task included."""
        return self.tally.given > 0 or (self.spawn is State.RUNNING and not self.spawn_started)

    @property
    def at_rest(self) -> bool:
        """Tell whether every task that it will have exists and has ended."""
        over = self.filled and not self.tally.open
        return not self.spawning and (over or ablated("stage_completion"))

    @property
    def overrun(self) -> bool:
        """Tell whether it fails: its spawn task has failed, or more of its tasks than it tolerates."""
        return self.spawn is State.FAILED or self.exceeds(self.tally.failed)

    @property
    def unfit(self) -> bool:
        """Tell whether it cannot complete as it is, for failures or for what a person has cancelled of it.

        The policy is about the tasks; without its spawn task's list there is nothing to tolerate.
        """
        if self.spawn is State.FAILED or (self.spawn is State.CANCELLED and self.spawn_hand):
            return True
        return self.exceeds(self.tally.failed + self.tally.left)

    def exceeds(self, lost: int) -> bool:
        """Tell whether so many tasks that failed or were cancelled are more than it tolerates."""
        if not lost or self.on_error is OnError.IGNORE:
            return False
        bound = self.max_failed
        if isinstance(bound, str):
            return self.expected is not None and lost * 100 > int(bound.removesuffix("%")) * self.expected
        return lost > (bound or 0)

    @property
    def filled(self) -> bool:
        """Tell whether every task that the stage will have exists as a row."""
        return self.expected is not None and self.tally.total == self.expected

    @property
    def next_index(self) -> int:
        """Return the index of the next task that it gets."""
        return self.shift + self.tally.total

    @property
    def unfilled(self) -> int:
        """Return how many items of a running stage are not tasks yet."""
        if self.source is not Source.SPAWN or self.state is not State.RUNNING or self.expected is None:
            return 0
        return max(0, self.expected - self.tally.total)

    @property
    def failures(self) -> int:
        """Return how many of its tasks failed for good, the spawn task included."""
        return self.tally.failed + (self.spawn is State.FAILED)

    @property
    def spawning(self) -> bool:
        """Tell whether its spawn task has not ended yet."""
        return self.spawn in (State.PENDING, State.QUEUED, State.RUNNING)

    @property
    def claimable(self) -> int:
        """Return how many of its tasks a worker may claim now, the spawn task included."""
        if self.state is not State.RUNNING or self.blocked or (self.by is not None and not ablated("stage_pause")):
            return 0
        if self.spawning:
            return int(self.spawn is State.QUEUED)
        if self.max_parallel is None or ablated("parallel_limit"):
            return self.tally.queued
        return max(0, min(self.tally.queued, self.max_parallel - self.tally.running))

    @property
    def claim_queue(self) -> str:
        """Return the queue that its claimable tasks wait in."""
        return self.spawn_queue if self.spawning and self.spawn_queue else self.queue

    @property
    def claim_rank(self) -> int:
        """Return minus the priority of its claimable tasks: lower ranks go first."""
        return -(self.spawn_priority if self.spawning else self.priority)


class Job(msgspec.Struct, frozen=True):
    """One submitted run, as far as decisions need it."""

    job_id: JobId
    state: State
    stages: tuple[Stage, ...]
    error: str | None = None
    #: The person who paused, cancelled or skipped it; None: no person.
    by: str | None = None
    #: Numbers of the stages that run or fail the job, so that a step does not have to look at the others.
    live: tuple[int, ...] | None = None
    #: (order, number) of the stages that are not done, lowest order first: a step looks at the first of them only.
    ahead: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.live is None:
            live = tuple(stage.number for stage in self.stages if _is_live(stage))
            ahead = sorted((stage.order, stage.number) for stage in self.stages if stage.state not in DONE)
            force_setattr(self, "live", live)
            force_setattr(self, "ahead", tuple(ahead))

    @property
    def paused(self) -> bool:
        """Tell whether a person holds it back."""
        return self.by is not None and self.state not in ENDED

    @property
    def failed_tasks(self) -> int:
        """Return how many tasks failed for good."""
        return sum(stage.failures for stage in self.stages)

    @property
    def living(self) -> list[Stage]:
        """Return the stages that run or fail the job."""
        return [self.stages[number] for number in self.live or ()]

    @property
    def front(self) -> list[Stage]:
        """Return the stages of the lowest order that is not done: those whose turn it is."""
        found: list[Stage] = []
        for order, number in self.ahead:
            if order != self.ahead[0][0]:
                break
            found.append(self.stages[number])
        return found

    def stage(self, number: int) -> Stage:
        """Return a stage by its number."""
        return self.stages[number]

    def in_state(self, state: State, *, by: str | None = None, error: str | None = None) -> Self:
        """Return the job in another state; raise ForbiddenTransition for one that cannot follow."""
        check_transition(JOB_TRANSITIONS, f"job {self.job_id}", self.state, state)
        return replace(self, state=state, by=by, error=error)

    def with_stage(self, stage: Stage) -> Self:
        """Return the job with one stage replaced; raise ForbiddenTransition for a state that cannot follow."""
        number, before = stage.number, self.stages[stage.number]
        check_transition(STAGE_TRANSITIONS, f"stage {number} of job {self.job_id}", before.state, stage.state)
        if before.spawn is not None and stage.spawn is not None:
            check_transition(TASK_TRANSITIONS, f"the spawn task of stage {number}", before.spawn, stage.spawn)
        live, ahead, place = self.live or (), self.ahead, (stage.order, number)
        if _is_live(before) is not _is_live(stage):
            live = tuple(sorted({*live, number} if _is_live(stage) else {*live} - {number}))
        if (before.state in DONE) is not (stage.state in DONE):
            at = bisect_left(ahead, place)
            ahead = ahead[:at] + (ahead[at + 1 :] if stage.state in DONE else (place, *ahead[at:]))
        stages = self.stages[:number] + (stage,) + self.stages[number + 1 :]
        return replace(self, stages=stages, live=live, ahead=ahead)


def _is_live(stage: Stage) -> bool:
    return stage.state is State.RUNNING or stage.failing
