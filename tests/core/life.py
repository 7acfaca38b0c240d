"""A job's whole life played with real rows beside the machine's counters; the two are compared at every step."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from echelon.controller.core.again import find_obstacle, plan_downstream, plan_job_retry, plan_stage_retry
from echelon.controller.core.answers import Allowed, Kind, Verb, answer_verb
from echelon.controller.core.effects import (
    BeginRun,
    Effect,
    RecallTasks,
    ReleaseSpawnTask,
    ReleaseTasks,
    Remember,
    ReopenTasks,
    RestoreTasks,
    SkipTasks,
    WithdrawTasks,
    list_reopened_stages,
)
from echelon.controller.core.events import (
    Again,
    CancelRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    SkipRequested,
    SpawnTaskHeld,
    SpawnTaskMoved,
    Submitted,
    TasksAdded,
    TasksCreated,
    TasksMoved,
    TasksSkipped,
    Together,
)
from echelon.controller.core.machine import step
from echelon.controller.core.model import Job, OnError
from echelon.controller.core.states import DONE, ENDED, State
from tests.core.chosen import choose
from tests.core.moves import Moves, may
from tests.core.rows import SPAWN, Row, Rows
from tests.core.soundness import check_chosen, check_end, check_paths, check_recalls, check_rows, check_turn


@dataclass
class Life(Moves):
    """A job, its task rows, and what has been said of it."""

    job: Job
    rng: random.Random
    rows: Rows = field(default_factory=dict)
    history: list[Remember] = field(default_factory=list)
    #: Tasks whose last attempt was ended by hand and may still be there.
    there: set[tuple[int, int]] = field(default_factory=set)
    #: Tasks that a person added, and those that earlier runs have left behind.
    added: set[tuple[int, int]] = field(default_factory=set)
    left: set[tuple[int, int]] = field(default_factory=set)
    #: Tasks that workers were asked to give back unless they have started.
    recalled: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for stage in self.job.stages:
            if stage.spawn is not None:
                self.rows[stage.number, SPAWN] = Row(State.PENDING)
            for index in range(stage.tally.pending):
                self.rows[stage.number, index] = Row(State.PENDING)
        self.feed(Submitted())

    def feed(self, event: Event) -> None:
        """Let the machine take a step and carry out its effects on the rows; check the tables on the way."""
        before = self.job
        self.job, effects = step(before, event)
        self._carry_out(effects)
        check_paths(before, self.job)
        for stage in list_reopened_stages(effects):
            self._put_off(stage)

    def _put_off(self, stage: int) -> None:
        """Let wait what may run again while its last attempt may be there."""
        waiting = [key for key in self.there if key[0] == stage and self.rows[key].state is State.QUEUED]
        for key in waiting:
            self.rows[key] = Row(State.PENDING)
        tasks = sum(index != SPAWN for _, index in waiting)
        if tasks:
            self.feed(TasksMoved(stage, {(State.QUEUED, State.PENDING): tasks}))
        if tasks < len(waiting):
            self.feed(SpawnTaskMoved(stage, State.PENDING))

    def _carry_out(self, effects: list[Effect]) -> None:
        self.history += [effect for effect in effects if isinstance(effect, Remember)]
        for effect in effects:
            match effect:
                case ReleaseTasks(stage) | ReleaseSpawnTask(stage):
                    self._release(stage, spawn=isinstance(effect, ReleaseSpawnTask))
                case WithdrawTasks(stage, running, _, by):
                    sources = {State.PENDING, State.QUEUED} | ({State.RUNNING} if running else set())
                    self._move(stage, sources, State.CANCELLED, becomes=by is not None)
                case RecallTasks(stage):
                    self.recalled |= {key for key, row in self.rows.items() if key[0] == stage and row.given}
                case SkipTasks(stage, _):
                    self._move(stage, set(State) - DONE, State.SKIPPED, becomes=True)
                case ReopenTasks(stage, target, sources, spawn, spans):
                    self._move(stage, set(sources), target, spawn=False, spans=spans)
                    if spawn:
                        self._set(stage, SPAWN, target)
                case BeginRun(stage, target):
                    self._begin_run(stage, target)
                case RestoreTasks(stage, target):
                    self._move(stage, {State.CANCELLED}, target, hand=False)

    # --- what happens by itself

    def settle(self, *ends: tuple[int, int, State]) -> None:
        """End attempts: first the rows, then all that it means at once, as the engine does it."""
        self.feed(Together(tuple(self._settled(*end) for end in ends)))

    def _settled(self, stage: int, index: int, target: State) -> TasksMoved | SpawnTaskMoved:
        hand, started = self.rows[stage, index].hand, self.rows[stage, index].started
        if hand and target is State.QUEUED:
            target = State.PENDING
        stays = hand and target is State.PENDING
        expected = self.rng.randint(0, 4) if index == SPAWN and target is State.COMPLETED else None
        self._set(stage, index, target, hand=stays)
        if index == SPAWN:
            return SpawnTaskMoved(stage, target, expected)
        return TasksMoved(stage, {(State.RUNNING, target): 1}, held=int(stays), started=-int(started))

    def act(self) -> None:
        """Do one thing at random that can happen now."""
        choices = [self._claim, self._claim, self._claim, self._end, self._end, self._create, self._due, self._hear]
        choices += [self._start, self._start, self._give_back]
        if self.rng.random() < 0.15:
            verbs = [self._job_verb, self._stage_verb, self._stage_verb, *[self._task_verb] * 4]
            choices = [*verbs, self._retry_chosen, self._retry_chosen, self._add, self._retry_behind]
        elif self.job.state in ENDED:
            choices = [self._job_verb, self._stage_verb, self._task_verb, self._retry_chosen, self._late_news]
            choices.append(self._retry_behind)
        self.rng.choice(choices)()

    def finish(self) -> None:
        """Let everything that is open go on and complete, nothing fail, and what waits for a person be skipped."""
        for _ in range(10_000):
            if self.job.state in ENDED:
                return
            self.feed(ResumeRequested())
            for stage in self.job.stages:
                self.feed(ResumeRequested(stage.number))
                if stage.state is State.RUNNING and stage.on_error is OnError.BLOCK and stage.at_rest and stage.unfit:
                    self.feed(SkipRequested("me", stage.number))
            for (stage_number, index), row in list(self.rows.items()):
                if row.hand and row.state not in ENDED:
                    self._resume_task(stage_number, index)
            self._claim()
            self._end(State.COMPLETED)
            self._create()
            self._hear()
            self._due()
        raise AssertionError(f"the job never ends: {self.job}, {self.rows}")

    def _claim(self) -> None:
        for stage in self.job.stages:
            if not stage.claimable:
                continue
            check_turn(self.job, stage)
            assert stage.begun
            if stage.spawning:
                self._set(stage.number, SPAWN, State.RUNNING)
                self.feed(SpawnTaskMoved(stage.number, State.RUNNING))
                return
            queued = self._rows(stage.number, State.QUEUED)[: stage.claimable]
            for index in queued:
                self._set(stage.number, index, State.RUNNING)
            self.feed(TasksMoved(stage.number, {(State.QUEUED, State.RUNNING): len(queued)}))
            return

    def _start(self) -> None:
        """Hear that some of what workers hold has started."""
        given = [key for key, row in self.rows.items() if row.given]
        some = self.rng.sample(given, self.rng.randint(0, len(given)))
        for key in some:
            self.rows[key] = replace(self.rows[key], started=True)
        for stage in sorted({stage for stage, _ in some}):
            tasks = sum(key[0] == stage and key[1] != SPAWN for key in some)
            if tasks:
                self.feed(TasksMoved(stage, {}, started=tasks))
            if (stage, SPAWN) in some:
                self.feed(SpawnTaskMoved(stage, State.RUNNING, started=True))

    def _give_back(self) -> None:
        """Give back what was asked for and has not started."""
        back = [key for key in sorted(self.recalled) if self.rows[key].given]
        if back:
            self.settle(*((*key, State.QUEUED) for key in back))

    def _end(self, target: State | None = None) -> None:
        running = [key for key, row in self.rows.items() if row.state is State.RUNNING]
        if running:
            outcomes = [State.COMPLETED, State.COMPLETED, State.FAILED, State.PENDING, State.QUEUED]
            some = self.rng.sample(running, min(len(running), self.rng.choice([1, 1, 2, 4])))
            self.settle(*((*key, target or self.rng.choice(outcomes)) for key in some))

    def _create(self) -> None:
        for stage in self.job.stages:
            lacks = stage.state is State.RUNNING and stage.spawn is State.COMPLETED and not stage.filled
            if lacks and stage.expected is not None:
                count = self.rng.randint(1, stage.expected - stage.tally.total)
                failed = self.rng.choice([0, 0, 0, count])
                for place in range(count):
                    state = State.FAILED if place < failed else State.QUEUED
                    self._insert(stage, place, Row(state))
                self.feed(TasksCreated(stage.number, count - failed, failed))
                return

    def _due(self) -> None:
        for (stage, index), row in self.rows.items():
            waits = row == Row(State.PENDING) and (stage, index) not in self.there
            if waits and self.job.stage(stage).state is State.RUNNING:
                self._set(stage, index, State.QUEUED)
                if index == SPAWN:
                    self.feed(SpawnTaskMoved(stage, State.QUEUED))
                else:
                    self.feed(TasksMoved(stage, {(State.PENDING, State.QUEUED): 1}))
                return

    def _hear(self) -> None:
        """Hear that nothing of an attempt is there any more."""
        if self.there:
            self.there.remove(self.rng.choice(sorted(self.there)))

    def _late_news(self) -> None:
        before = self.job
        self.feed(TasksMoved(0, {(State.RUNNING, State.COMPLETED): 1}))
        assert self.job == before or self.job.state not in ENDED

    # --- what people do

    def _job_verb(self) -> None:
        verb = self.rng.choice([Verb.PAUSE, Verb.RESUME, Verb.CANCEL, Verb.RETRY, Verb.RETRY, Verb.SKIP])
        if not may(Kind.JOB, self.job.state, verb, self.job.paused) or (
            verb in (Verb.CANCEL, Verb.SKIP) and self.rng.random() < 0.8
        ):
            return
        match verb:
            case Verb.PAUSE:
                self.feed(PauseRequested("me"))
            case Verb.RESUME:
                self.feed(ResumeRequested())
            case Verb.CANCEL:
                self.feed(CancelRequested("me"))
            case Verb.SKIP:
                self.feed(SkipRequested("me"))
            case _:
                self._retry(plan_job_retry(self.job, everything=self.rng.random() < 0.2), whole=True)

    def _stage_verb(self) -> None:
        stage = self.rng.choice(self.job.stages)
        verb = self.rng.choice([Verb.PAUSE, Verb.RESUME, Verb.CANCEL, Verb.RETRY, Verb.SKIP])
        if not may(Kind.STAGE, stage.state, verb, stage.paused):
            return
        match verb:
            case Verb.PAUSE:
                self.feed(PauseRequested("me", stage.number))
            case Verb.RESUME:
                self.feed(ResumeRequested(stage.number))
            case Verb.CANCEL:
                self.feed(CancelRequested("me", stage.number))
            case Verb.SKIP:
                self.feed(SkipRequested("me", stage.number))
            case _:
                again = plan_stage_retry(stage, everything=self.rng.random() < 0.2)
                self._retry((again,) if again else (), whole=False)

    def _retry(self, stages: tuple[Again, ...], *, whole: bool) -> None:
        if find_obstacle(self.job, stages) is None:
            self._repeat(stages, whole=whole)

    def _repeat(self, stages: tuple[Again, ...], *, whole: bool) -> None:
        self.feed(RetryRequested(stages, whole=whole))
        assert not stages or self.job.state not in ENDED - DONE, f"it ended again: {stages}"
        withdrawn = [again.stage for again in stages if self.job.stage(again.stage).tally.withdrawn]
        assert not withdrawn, f"what is to run again was withdrawn at once: {stages}"

    def _task_verb(self) -> None:
        if not self.rows:
            return
        number, index = self.rng.choice(list(self.rows))
        row = self.rows[number, index]
        verb = self.rng.choice([Verb.PAUSE, Verb.PAUSE, Verb.RESUME, Verb.CANCEL, Verb.RETRY, Verb.SKIP, Verb.SKIP])
        if not may(Kind.TASK, row.shown, verb, row.hand and row.state not in ENDED):
            return
        match verb:
            case Verb.PAUSE:
                self._pause_task(number, index, row)
            case Verb.RESUME:
                self._resume_task(number, index)
            case Verb.CANCEL:
                self._leave(number, index, row, State.CANCELLED)
            case Verb.SKIP:
                self._skip_task(number, index, row)
            case _:
                self._retry_task(number, index, row)

    def _pause_task(self, number: int, index: int, row: Row) -> None:
        target = State.PENDING if row.state is State.QUEUED else row.state
        self.rows[number, index] = Row(target, hand=True, started=row.started)
        if index == SPAWN:
            self.feed(SpawnTaskHeld(number, True, target))
        else:
            moves = {(row.state, target): 1} if target is not row.state else {}
            self.feed(TasksMoved(number, moves, held=int(target is State.PENDING)))

    def _resume_task(self, number: int, index: int) -> None:
        row = self.rows[number, index]
        goes = row.state is State.PENDING and self.job.stage(number).state is State.RUNNING
        goes = goes and (number, index) not in self.there
        target = State.QUEUED if goes else row.state
        self.rows[number, index] = Row(target, started=row.started)
        if index == SPAWN:
            self.feed(SpawnTaskHeld(number, False, target))
        else:
            moves = {(row.state, target): 1} if goes else {}
            self.feed(TasksMoved(number, moves, held=-int(row.state is State.PENDING)))

    def _leave(self, number: int, index: int, row: Row, target: State) -> None:
        self._set(number, index, target, hand=True)
        if index == SPAWN:
            self.feed(SpawnTaskMoved(number, target))
        else:
            held = -int(row == Row(State.PENDING, hand=True))
            self.feed(TasksMoved(number, {(row.state, target): 1}, held=held, started=-int(row.started)))

    def _skip_task(self, number: int, index: int, row: Row) -> None:
        self._set(number, index, State.SKIPPED, hand=True)
        counts = {} if index == SPAWN else {row.state: 1}
        held = int(row == Row(State.PENDING, hand=True)) if counts else 0
        withdrawn = int(row == Row(State.CANCELLED)) if counts else 0
        started = int(row.started) if counts else 0
        self.feed(TasksSkipped(number, counts, held, withdrawn, started, spawn=index == SPAWN))

    def _retry_task(self, number: int, index: int, row: Row) -> None:
        if row.state is State.RUNNING:
            self.there.add((number, index))
            self.settle((number, index, State.PENDING))
            return
        if index == SPAWN:
            self._retry((Again(number, {}, spawn=True),), whole=False)
            return
        withdrawn = int(row == Row(State.CANCELLED))
        self._retry((Again(number, {row.state: 1}, False, withdrawn, ((index, index),)),), whole=False)

    def _retry_chosen(self) -> None:
        """Retry tasks of several stages at once: what runs of them is killed first."""
        chosen, before = choose(self.job, self.rows, self.rng), dict(self.rows)
        if not chosen.tasks or find_obstacle(self.job, chosen.stages) is not None:
            return
        self.there.update(chosen.running)
        if chosen.running:
            self.settle(*((*key, State.PENDING) for key in chosen.running))
        if chosen.agains:
            self._repeat(chosen.agains, whole=False)
        check_chosen(before, self.rows, chosen.tasks)

    def _retry_behind(self) -> None:
        """Let the stages behind one begin their next run, as the engine does when nothing of them can still run."""
        before = {stage.number: stage.run for stage in self.job.stages}
        agains = plan_downstream(self.job, self.rng.choice(self.job.stages).order)
        running = {key[0] for key, row in self.rows.items() if row.state is State.RUNNING or key in self.there}
        if not agains or running & {again.stage for again in agains} or find_obstacle(self.job, agains) is not None:
            return
        self._repeat(agains, whole=False)
        for again in agains:
            stage = self.job.stage(again.stage)
            assert stage.run == before[again.stage] + again.anew
            assert not again.anew or (stage.spawning and stage.tally.total == stage.added)

    def _add(self) -> None:
        stage = self.rng.choice(self.job.stages)
        if not isinstance(answer_verb(Kind.STAGE, stage.state, Verb.ADD, paused=stage.paused), Allowed):
            return
        count, held = self.rng.randint(1, 3), self.rng.choice([0, 0, 1])
        state = State.QUEUED if stage.state is State.RUNNING else State.PENDING
        for place in range(count):
            row = Row(State.PENDING, hand=True) if place < held else Row(state)
            self.added.add(self._insert(stage, place, row))
        self.feed(TasksAdded(stage.number, count, held))

    # --- what must hold

    def check(self) -> None:
        """Check what must hold after every step."""
        check_rows(self.job, self.rows, self.there)
        check_recalls(self.job, self.rows, self.recalled)
        check_end(self.job, self.rows)
