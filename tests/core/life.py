"""A job's whole life played with real rows beside the machine's counters; the two are compared at every step."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from controller.core.machine import step
from controller.core.model import (
    CancelRequested,
    Event,
    Job,
    OnError,
    ReleaseSpawnTask,
    ReleaseTasks,
    Remember,
    ReopenTasks,
    RetryRequested,
    Source,
    SpawnTaskMoved,
    Stage,
    Submitted,
    Tally,
    TasksCreated,
    TasksMoved,
    WithdrawTasks,
)
from controller.core.states import ENDED, JOB_TRANSITIONS, STAGE_TRANSITIONS, TASK_TRANSITIONS, State
from shared.ids import JobId

SPAWN = -1


def random_job(rng: random.Random) -> Job:
    """Return a job of up to five stages, some of equal order, with every kind of source and policy."""
    stages = []
    order = 0
    for number in range(rng.randint(1, 5)):
        order += rng.choice([0, 1, 1, 1])
        spawns = rng.random() < 0.4
        fixed = rng.randint(0, 4)
        stages.append(
            Stage(
                number=number,
                order=order,
                name=f"stage {number}",
                source=Source.SPAWN if spawns else Source.FIXED,
                on_error=rng.choice(list(OnError)),
                fail_fast=rng.random() < 0.3,
                max_parallel=rng.choice([None, None, 1, 2]),
                tally=Tally() if spawns else Tally(pending=fixed),
                spawn=State.PENDING if spawns else None,
                expected=None if spawns else fixed,
            )
        )
    return Job(JobId("job"), State.PENDING, tuple(stages))


@dataclass
class Life:
    """A job, its task rows, and what has been said of it."""

    job: Job
    rng: random.Random
    rows: dict[tuple[int, int], State] = field(default_factory=dict)
    history: list[Remember] = field(default_factory=list)
    #: Order of every stage in which a task has ever run, in the order of starts since the last retry.
    started_orders: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stage in self.job.stages:
            if stage.spawn is not None:
                self.rows[stage.number, SPAWN] = State.PENDING
            for index in range(stage.tally.pending):
                self.rows[stage.number, index] = State.PENDING
        self.feed(Submitted())

    def feed(self, event: Event) -> None:
        """Let the machine take a step and carry out its effects on the rows; check the tables on the way."""
        before = self.job
        self.job, effects = step(before, event)
        for effect in effects:
            match effect:
                case ReleaseTasks(stage):
                    self._move(stage, {State.PENDING}, State.QUEUED, spawn=False)
                case ReleaseSpawnTask(stage):
                    self._set(stage, SPAWN, State.QUEUED)
                case WithdrawTasks(stage, running, _):
                    sources = {State.PENDING, State.QUEUED} | ({State.RUNNING} if running else set())
                    self._move(stage, sources, State.CANCELLED, spawn=True)
                case ReopenTasks(stage, target):
                    self._move(stage, {State.FAILED, State.CANCELLED}, target, spawn=True)
                case Remember():
                    self.history.append(effect)
        self._check_transitions(before)

    def settle(self, stage: int, index: int, target: State) -> None:
        """End an attempt: first the row, then the event, as the engine does it."""
        expected = self.rng.randint(0, 4) if index == SPAWN and target is State.COMPLETED else None
        self._set(stage, index, target)
        if index == SPAWN:
            self.feed(SpawnTaskMoved(stage, target, expected))
        else:
            self.feed(TasksMoved(stage, {(State.RUNNING, target): 1}))

    def act(self) -> None:
        """Do one thing at random that can happen now."""
        choices = [self._claim, self._claim, self._claim, self._end, self._end, self._create, self._due]
        if self.rng.random() < 0.02:
            choices = [lambda: self.feed(CancelRequested())]
        if self.job.state in ENDED:
            choices = [self._retry, self._late_news]
        self.rng.choice(choices)()

    def finish(self) -> None:
        """Let everything that is open complete, and nothing fail."""
        for _ in range(10_000):
            if self.job.state in ENDED:
                return
            self._claim()
            self._end(State.COMPLETED)
            self._create()
            self._due()
        raise AssertionError(f"the job never ends: {self.job}, {self.rows}")

    def _claim(self) -> None:
        for stage in self.job.stages:
            if not stage.claimable:
                continue
            self.started_orders.append(stage.order)
            if stage.spawning:
                self._set(stage.number, SPAWN, State.RUNNING)
                self.feed(SpawnTaskMoved(stage.number, State.RUNNING))
                return
            queued = self._rows(stage.number, State.QUEUED)[: stage.claimable]
            for index in queued:
                self._set(stage.number, index, State.RUNNING)
            self.feed(TasksMoved(stage.number, {(State.QUEUED, State.RUNNING): len(queued)}))
            return

    def _end(self, target: State | None = None) -> None:
        running = [key for key, state in self.rows.items() if state is State.RUNNING]
        if running:
            outcomes = [State.COMPLETED, State.COMPLETED, State.FAILED, State.PENDING, State.QUEUED]
            self.settle(*self.rng.choice(running), target or self.rng.choice(outcomes))

    def _create(self) -> None:
        for stage in self.job.stages:
            lacks = stage.state is State.RUNNING and stage.spawn is State.COMPLETED and not stage.filled
            if lacks and stage.expected is not None:
                count = self.rng.randint(1, stage.expected - stage.tally.total)
                failed = self.rng.choice([0, 0, 0, count])
                for place in range(count):
                    state = State.FAILED if place < failed else State.QUEUED
                    self.rows[stage.number, stage.tally.total + place] = state
                self.feed(TasksCreated(stage.number, count - failed, failed))
                return

    def _due(self) -> None:
        for (stage, index), state in self.rows.items():
            if state is State.PENDING and self.job.stage(stage).state is State.RUNNING:
                self._set(stage, index, State.QUEUED)
                if index == SPAWN:
                    self.feed(SpawnTaskMoved(stage, State.QUEUED))
                else:
                    self.feed(TasksMoved(stage, {(State.PENDING, State.QUEUED): 1}))
                return

    def _retry(self) -> None:
        if self.job.state in (State.FAILED, State.CANCELLED):
            self.started_orders.clear()
        self.feed(RetryRequested())

    def _late_news(self) -> None:
        before = self.job
        self.feed(TasksMoved(0, {(State.RUNNING, State.COMPLETED): 1}))
        assert self.job == before

    def _rows(self, stage: int, *states: State) -> list[int]:
        tasks = ((index, state) for (number, index), state in self.rows.items() if number == stage and index >= 0)
        return [index for index, state in tasks if state in states]

    def _set(self, stage: int, index: int, target: State) -> None:
        source = self.rows[stage, index]
        assert target in TASK_TRANSITIONS[source], f"task {stage}.{index}: {source} -> {target}"
        self.rows[stage, index] = target

    def _move(self, stage: int, sources: set[State], target: State, *, spawn: bool) -> None:
        for (number, index), state in list(self.rows.items()):
            if number == stage and state in sources and (spawn or index != SPAWN):
                self._set(number, index, target)

    def _check_transitions(self, before: Job) -> None:
        if self.job.state is not before.state:
            assert_path(JOB_TRANSITIONS, before.state, self.job.state)
        for old, new in zip(before.stages, self.job.stages, strict=True):
            if new.state is not old.state:
                assert_path(STAGE_TRANSITIONS, old.state, new.state)

    def check(self) -> None:
        """Check what must hold after every step."""
        for stage in self.job.stages:
            rows = Counter(self.rows[stage.number, index] for index in self._rows(stage.number, *State))
            counted = {state: getattr(stage.tally, state.lower()) for state in State}
            assert {state: count for state, count in counted.items() if count} == dict(rows)
            if stage.spawn is not None:
                assert self.rows[stage.number, SPAWN] is stage.spawn
            if stage.state in ENDED:
                assert not stage.tally.open and not stage.spawning
        assert self.started_orders == sorted(self.started_orders), "a stage ran before an earlier one was done"
        if self.job.state in ENDED:
            assert all(stage.state in ENDED for stage in self.job.stages)
            assert all(state in ENDED for state in self.rows.values())


def assert_path(table: dict[State, frozenset[State]], source: State, target: State) -> None:
    """Check that a state may follow another, in one or more allowed steps of one turn."""
    reached, edge = {source}, {source}
    while edge:
        edge = {after for state in edge for after in table[state]} - reached
        reached |= edge
    assert target in reached
