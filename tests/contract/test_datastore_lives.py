"""Random lives of tasks: whatever is asked in whatever order, the rows and the counters say the same as a simple model.

ECHELON_FUZZ=10000 lives 5,000 of them, of 50 steps each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from echelon.controller.core.events import CancelRequested, RetryRequested, TasksMoved
from echelon.controller.core.model import OnError
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import Settlement, TaskRow
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.ids import TaskId, new_worker_id
from echelon.shared.messages import AttemptRef, Outcome
from tests.contract.stores import fan_out, in_line, stepped

WORKERS = [new_worker_id() for _ in range(2)]
COUNT = 4
rarely = st.sampled_from([False, False, False, True])
workers = st.sampled_from(WORKERS)
picks = st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=COUNT, unique=True)
endings = st.sampled_from(
    [
        (State.COMPLETED, Outcome.COMPLETED), (State.FAILED, Outcome.FAILED), (State.PENDING, Outcome.FAILED),
        (State.QUEUED, Outcome.INTERRUPTED), (State.PENDING, Outcome.LOST),
    ]
)  # fmt: skip


#: Outcomes of what may have waited at its worker until the end.
UNSTARTED = (Outcome.INTERRUPTED, Outcome.LOST)


class Undone(Exception):
    """Rolls a transaction back."""


@dataclass
class Model:
    """A task as it should be."""

    task_id: TaskId
    state: State = State.QUEUED
    #: Its claims, and how many of them ended without a start.
    attempt: int = 0
    unstarted: int = 0
    #: What runs has started; else it waits at its worker.
    started: bool = False
    #: The last claim that ended was an attempt.
    counted_last: bool = True
    failures: int = 0
    worker: str | None = None
    ended: int = 0
    #: A person has ended its last attempt, and its worker has not told of the end.
    there: bool = False
    #: A person holds it back.
    held: bool = False

    @property
    def given(self) -> bool:
        """Tell whether it waits at its worker."""
        return self.state is State.RUNNING and not self.started

    def end_claim(self, state: State, *, counted: bool) -> None:
        """Leave RUNNING."""
        self.state, self.started = state, False
        self.ended += counted
        self.unstarted += not counted
        self.counted_last = counted


class Lives(RuleBasedStateMachine):
    """One job with a fan-out of a few tasks."""

    def __init__(self, store: Datastore) -> None:
        super().__init__()
        self.store = store
        self.job_id = fan_out(store, COUNT, on_error=OnError.IGNORE)
        with store.read() as reader:
            page = reader.list_tasks(self.job_id, TaskFilter(), limit=100, cursor=None)
        self.tasks = [Model(task.task_id) for task in page.items if task.index >= 0]
        self.seen: list[TaskRow] = []
        self.job = State.RUNNING

    @precondition(lambda self: self.has(State.QUEUED))
    @rule(worker=workers, count=st.integers(1, COUNT), undo=rarely)
    def claim(self, worker: Any, count: int, undo: bool) -> None:
        expected = [task for task in self.tasks if task.state is State.QUEUED][:count]

        def act(tx: Transaction) -> None:
            claimed = tx.claim_tasks(self.job_id, 0, spawn=False, count=count, worker=worker, lease=15.0)
            assert [(task.task_id, task.attempt) for task in claimed] == [
                (task.task_id, task.attempt + 1) for task in expected
            ]
            self.move(tx, State.QUEUED, State.RUNNING, len(claimed))
            self.seen += tx.load_tasks([task.task_id for task in claimed])

        if self.done(act, undo=undo):
            for task in expected:
                task.state, task.attempt, task.worker = State.RUNNING, task.attempt + 1, worker
                task.there = False

    @precondition(lambda self: any(task.given for task in self.tasks))
    @rule(picked=picks, undo=rarely)
    def start(self, picked: list[int], undo: bool) -> None:
        given = [task for task in self.tasks if task.given]
        chosen = [given[index] for index in picked if index < len(given)]

        def act(tx: Transaction) -> None:
            tx.mark_started([(task, tx.now()) for task in tx.load_tasks([task.task_id for task in chosen])])
            stepped(tx, self.job_id, TasksMoved(0, {}, started=len(chosen)))

        if chosen and self.done(act, undo=undo):
            for task in chosen:
                task.started = True

    @precondition(lambda self: self.has(State.RUNNING))
    @rule(picked=picks, ending=endings, undo=rarely)
    def settle(self, picked: list[int], ending: tuple[State, Outcome], undo: bool) -> None:
        running = [task for task in self.tasks if task.state is State.RUNNING]
        chosen = [running[index] for index in picked if index < len(running)]
        state, outcome = ending
        failed = outcome is Outcome.FAILED
        chosen = [task for task in chosen if not (task.held and state in (State.QUEUED, State.PENDING))]

        def act(tx: Transaction) -> None:
            held = tx.load_tasks([task.task_id for task in chosen])
            due = tx.now() - 1.0 if state is State.PENDING else None
            tx.settle_attempts(
                [
                    Settlement(
                        task, state, outcome, not_before=due, failure=failed, started_at=tx.now(),
                        counted=task.started or outcome not in UNSTARTED,
                    )
                    for task in held
                ]
            )  # fmt: skip
            started = sum(task.started for task in held)
            stepped(tx, self.job_id, TasksMoved(0, {(State.RUNNING, state): len(held)}, started=-started))

        if chosen and self.done(act, undo=undo):
            for task in chosen:
                task.held = False
                task.failures += failed
                task.end_claim(state, counted=task.started or outcome not in UNSTARTED)
            self.end_if_over()

    @precondition(lambda self: any(task.started for task in self.tasks))
    @rule(undo=rarely)
    def kill(self, undo: bool) -> None:
        task = next(task for task in self.tasks if task.started)

        def act(tx: Transaction) -> None:
            (held,) = [one for one in tx.load_started(self.job_id, 0) if one.task_id == task.task_id]
            due = tx.now() - 1.0
            tx.settle_attempts([Settlement(held, State.PENDING, Outcome.KILLED, not_before=due, killed=True)])
            stepped(tx, self.job_id, TasksMoved(0, {(State.RUNNING, State.PENDING): 1}, None, int(task.held), -1))

        if self.done(act, undo=undo):
            task.end_claim(State.PENDING, counted=True)
            task.there = True

    @precondition(lambda self: self.job is State.RUNNING)
    @rule(picked=picks, undo=rarely)
    def pause(self, picked: list[int], undo: bool) -> None:
        chosen = [self.tasks[index] for index in picked]
        chosen = [task for task in chosen if task.state not in ENDED and not task.held]

        def act(tx: Transaction) -> None:
            tx.pause_tasks(self.job_id, 0, spans=tuple((index, index) for index in picked), by="me")
            queued = sum(task.state is State.QUEUED for task in chosen)
            waiting = sum(task.state is State.PENDING for task in chosen)
            moves = {(State.QUEUED, State.PENDING): queued} if queued else {}
            stepped(tx, self.job_id, TasksMoved(0, moves, held=queued + waiting))

        if self.done(act, undo=undo):
            for task in chosen:
                task.held = True
                task.state = State.PENDING if task.state is State.QUEUED else task.state

    @precondition(lambda self: any(task.held for task in self.tasks))
    @rule(undo=rarely)
    def resume(self, undo: bool) -> None:
        waiting = [task for task in self.tasks if task.held and task.state is State.PENDING]
        going = [task for task in waiting if not task.there]

        def act(tx: Transaction) -> None:
            counted = tx.count_tasks(self.job_id, 0, only=State.PENDING)
            assert sum(one.count for one in counted if one.hand and not one.waits) == len(going)
            tx.resume_tasks(self.job_id, 0, begun=True)
            moves = {(State.PENDING, State.QUEUED): len(going)} if going else {}
            stepped(tx, self.job_id, TasksMoved(0, moves, held=-len(waiting)))

        if self.done(act, undo=undo):
            for task in self.tasks:
                task.held = False
            for task in going:
                task.state = State.QUEUED

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def settle_something_seen_before(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.seen))
        task = next(task for task in self.tasks if task.task_id == held.task_id)
        if task.state is State.RUNNING and (task.attempt, task.worker) == (held.attempt, held.worker):
            return

        try:
            with self.store.write() as tx:
                tx.lock_jobs([self.job_id])
                tx.settle_attempts([Settlement(replace(held), State.COMPLETED, Outcome.COMPLETED)])
        except GuardFailed:
            return
        raise AssertionError("an attempt that lost its right has counted")

    @precondition(lambda self: any(task.there for task in self.tasks))
    @rule()
    def hear_of_an_end(self) -> None:
        task = next(task for task in self.tasks if task.there)

        def act(tx: Transaction) -> None:
            tx.clear_leases(tx.load_tasks([task.task_id]))

        self.done(act)
        task.there = False

    @precondition(lambda self: any(task.there and not task.counted_last for task in self.tasks))
    @rule()
    def hear_of_a_late_start(self) -> None:
        task = next(task for task in self.tasks if task.there and not task.counted_last)

        def act(tx: Transaction) -> None:
            tx.count_late_starts([(row, tx.now()) for row in tx.load_tasks([task.task_id])])

        self.done(act)
        task.ended, task.unstarted, task.counted_last = task.ended + 1, task.unstarted - 1, True

    @precondition(lambda self: self.has(State.PENDING))
    @rule()
    def release_what_is_due(self) -> None:
        waiting = [task for task in self.tasks if task.state is State.PENDING and not (task.there or task.held)]

        def act(tx: Transaction) -> None:
            due = {task_id for job_id, task_id in tx.find_due(limit=10_000) if job_id == self.job_id}
            assert due == {task.task_id for task in waiting}
            released = tx.release_due(due | {task.task_id for task in self.tasks})
            assert {task.task_id for task in released} == due
            self.move(tx, State.PENDING, State.QUEUED, len(released))

        self.done(act)
        for task in waiting:
            task.state = State.QUEUED

    @precondition(lambda self: self.has(State.RUNNING))
    @rule(worker=workers, attempt=st.integers(1, 3))
    def renew(self, worker: Any, attempt: int) -> None:
        asked = {AttemptRef(task.task_id, attempt) for task in self.tasks}

        with self.store.write() as tx:
            kept = tx.renew_leases(worker, asked, lease=15.0)

        assert kept == {
            AttemptRef(task.task_id, attempt)
            for task in self.tasks
            if task.state is State.RUNNING and (task.worker, task.attempt) == (worker, attempt)
        }

    @precondition(lambda self: self.job is State.RUNNING)
    @rule(undo=rarely)
    def cancel(self, undo: bool) -> None:
        if self.done(lambda tx: stepped(tx, self.job_id, CancelRequested()), undo=undo):
            self.job = State.CANCELLED
            for task in self.tasks:
                task.held = False
                if task.state is State.RUNNING:
                    task.there = True
                    task.end_claim(State.CANCELLED, counted=task.started)
                elif task.state not in ENDED:
                    task.state = State.CANCELLED

    @precondition(lambda self: self.job is State.CANCELLED)
    @rule()
    def retry(self) -> None:
        self.done(lambda tx: stepped(tx, self.job_id, RetryRequested()))
        self.job = State.RUNNING
        for task in self.tasks:
            if task.state in (State.FAILED, State.CANCELLED):
                task.state, task.failures = State.PENDING if task.there else State.QUEUED, 0
        self.end_if_over()

    @invariant()
    def rows_and_counters_agree(self) -> None:
        with self.store.read() as reader:
            view = reader.find_job(self.job_id)
            rows = reader.list_tasks(self.job_id, TaskFilter(), limit=100, cursor=None).items[1:]
            ended = Counter(a.task_id for _, a in reader.list_attempts_since(self.job_id, after=0, limit=10_000))
            running = [task.task_id for task in reader.list_running(self.job_id, limit=100)]
            for task in self.tasks:
                assert len(reader.list_attempts(task.task_id)) == task.ended == ended[task.task_id]
        assert view is not None and view.state is self.job
        shown = [State.QUEUED if task.given else task.state for task in self.tasks]
        assert [(row.state, row.attempt, row.claim) for row in rows] == [
            (state, task.attempt - task.unstarted - task.given, task.attempt)
            for state, task in zip(shown, self.tasks, strict=True)
        ]
        for tally, states in (
            (view.stages[0].tally, [task.state for task in self.tasks]),
            (view.stages[0].tally.shown, shown),
        ):
            assert {state: getattr(tally, state.lower()) for state in State} == {
                state: states.count(state) for state in State
            }
        counted = Counter(task.state for task in self.tasks)
        assert running == [task.task_id for task in self.tasks if task.started]
        with self.store.write() as tx:
            ready = (self.job_id, 0) in in_line(tx, None, limit=10_000)
        assert ready == (self.job is State.RUNNING and counted[State.QUEUED] > 0)

    def has(self, state: State) -> bool:
        return any(task.state is state for task in self.tasks)

    def done(self, act: Any, *, undo: bool = False) -> bool:
        """Do something in a transaction; with `undo` roll it back, and tell that it did not happen."""
        seen = len(self.seen)
        try:
            with self.store.write() as tx:
                tx.lock_jobs([self.job_id])
                act(tx)
                if undo:
                    raise Undone
        except Undone:
            del self.seen[seen:]
        return not undo

    def move(self, tx: Transaction, source: State, target: State, count: int) -> None:
        if count:
            stepped(tx, self.job_id, TasksMoved(0, {(source, target): count}))

    def end_if_over(self) -> None:
        if self.job is State.RUNNING and all(task.state in ENDED for task in self.tasks):
            self.job = State.COMPLETED


def test_rows_and_counters_agree_in_every_life(store: Datastore) -> None:
    def life() -> Lives:
        return Lives(store)

    # A life has many steps, each with its transactions: half as many of them, and none has to be quick.
    wanted = settings(max_examples=settings().max_examples // 2, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(life, settings=wanted)
