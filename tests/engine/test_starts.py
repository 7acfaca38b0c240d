"""Claimed is not started: people see RUNNING, attempts and their numbers from the start of a process."""

from __future__ import annotations

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.records import SPAWN_INDEX, AttemptView, TaskView
from echelon.shared.ids import JobId
from echelon.shared.messages import AttemptRef, Outcome, WorkerCard
from echelon.shared.volume.starts import StartLog
from tests.engine.house import House, Puppet, ref
from tests.engine.jobs import spawned, urls


def first(house: House, job_id: JobId) -> TaskView:
    return next(task for task in house.tasks(job_id) if task.index != SPAWN_INDEX)


def attempts(house: House, job_id: JobId) -> list[AttemptView]:
    with house.store.read() as reader:
        return reader.list_attempts(first(house, job_id).task_id)


def counts(house: House, job_id: JobId) -> tuple[int, int]:
    """Return how many tasks of the first stage are QUEUED and RUNNING, by every figure that is shown."""
    tally = house.view(job_id).stages[0].tally.shown
    with house.store.read() as reader:
        (queue,) = reader.count_queues()
        states = reader.count_states()["tasks"]
        working = sum(map(len, reader.list_attempts_at_work(limit=100).values()))
        running = len(reader.list_running(job_id, limit=100))
    tasks = [task.state for task in house.tasks(job_id, 0) if task.index != SPAWN_INDEX]
    found = {
        (tally.queued, tally.running),
        (queue.ready, queue.running),
        (states["QUEUED"], states["RUNNING"]),
        (tasks.count(State.QUEUED), tasks.count(State.RUNNING)),
        (tally.queued, working),
        (tally.queued, running),
    }
    assert len(found) == 1, found
    return found.pop()


def test_what_is_given_ahead_is_queued_until_it_starts(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(5))
    puppet.listen()
    assert len(puppet.granted) == 5
    assert counts(house, job_id) == (5, 0)
    given = first(house, job_id)
    assert (given.state, given.attempt, given.started_at, given.worker) == (State.QUEUED, 0, None, None)

    house.clock.pass_(7.0)
    puppet.start(*puppet.granted[:2], seconds=0.25)

    assert counts(house, job_id) == (3, 2)
    runs = first(house, job_id)
    assert (runs.state, runs.attempt, runs.worker) == (State.RUNNING, 1, "puppet")
    assert runs.started_at == house.clock.seconds - 0.25
    puppet.finish(puppet.granted[0])
    assert counts(house, job_id) == (3, 1)


def test_a_spawn_task_is_queued_until_it_starts(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("many")
    held = puppet.take_ahead()
    assert house.view(job_id).stages[0].shown_spawn is State.QUEUED

    puppet.start(held)

    assert house.view(job_id).stages[0].shown_spawn is State.RUNNING


def test_a_task_whose_start_was_never_told_was_an_attempt_all_the_same(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take_ahead()
    house.clock.pass_(2.0)
    puppet.finish(held, seconds=0.5)

    task = first(house, job_id)
    assert (task.state, task.attempt) == (State.COMPLETED, 1)
    assert task.started_at is not None and task.ended_at == task.started_at + 0.5
    (attempt,) = attempts(house, job_id)
    assert (attempt.attempt, attempt.started_at) == (1, task.started_at)


def test_what_comes_back_unstarted_uses_no_number_and_leaves_no_trace(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("retried")
    for _ in range(3):
        held = puppet.take_ahead()
        assert held[1].number == 1
        puppet.report(released=(ref(held),), room=puppet.room)
    assert attempts(house, job_id) == []
    assert {"attempt_failed", "not_started"}.isdisjoint(house.kinds(job_id))

    held = puppet.take()
    puppet.finish(held, Outcome.FAILED)
    house.clock.pass_(5.1)
    puppet.heartbeat()
    again = puppet.take_ahead()

    assert (held[1].attempt, held[1].number, again[1].attempt, again[1].number) == (4, 1, 5, 2)
    assert [(one.attempt, one.claim, one.outcome) for one in attempts(house, job_id)] == [(1, 4, Outcome.FAILED)]
    with house.store.read() as reader:
        assert reader.find_claims(first(house, job_id)) == {1: 4, 2: 5}


def test_a_worker_that_could_not_start_it_costs_no_attempt_and_a_wrong_command_does(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("retried")
    puppet.finish(puppet.take_ahead(), Outcome.WORKER_FAULT, error="the volume is missing", begun=False)
    assert attempts(house, job_id) == []
    assert "not_started" in house.kinds(job_id)
    house.clock.pass_(1.1)
    puppet.heartbeat()

    held = puppet.take_ahead()
    puppet.finish(held, Outcome.NOT_STARTED, error="no such command")

    assert held[1].number == 1
    assert [(one.attempt, one.outcome) for one in attempts(house, job_id)] == [(1, Outcome.NOT_STARTED)]


def test_a_wait_after_a_fault_is_not_an_hour_longer_when_the_clock_is_set_back(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.finish(puppet.take_ahead(), Outcome.WORKER_FAULT, begun=False)
    house.clock.skew -= 3600.0
    for _ in range(3):
        house.clock.pass_(1.1)
        house.turn()

    assert first(house, job_id).state is State.QUEUED


def test_no_more_run_than_a_worker_has_slots_although_the_end_of_one_is_read_late(house: House) -> None:
    puppet = Puppet(house, room={"*": 2})
    job_id = spawned(house, puppet, "many", urls(3))
    before, other = puppet.take(), puppet.take()
    puppet.room = {"*": 1}
    puppet.heartbeat()
    later = puppet.take_ahead()
    # Its slots are still two; the end of the first is on its way to another controller.
    card = WorkerCard("puppet", "host", 1, "test", {"*": 2})
    puppet.report(card=card, running=tuple(map(ref, (before, other, later))), started=())
    puppet.start(later)
    assert counts(house, job_id) == (1, 2)

    puppet.finish(before)
    assert counts(house, job_id) == (1, 1)
    puppet.start(later)

    assert counts(house, job_id) == (0, 2)


def test_all_that_a_worker_of_an_earlier_release_holds_counts_as_started_up_to_its_slots(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(3))
    puppet.listen()
    card = WorkerCard("puppet", "host", 1, "test", {"*": 2})

    puppet.report(card=card, running=tuple(map(ref, puppet.granted)))
    puppet.report(card=card, running=tuple(map(ref, puppet.granted)))

    assert counts(house, job_id) == (1, 2)


def test_a_start_that_is_told_again_or_too_late_changes_nothing(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    told = first(house, job_id)
    puppet.start(held)
    assert first(house, job_id) == told
    puppet.finish(held)
    over = first(house, job_id)
    puppet.start(held)

    assert first(house, job_id) == over


# --- verbs


def test_a_kill_ends_what_has_started_and_nothing_else(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", urls(2))
    started, given = puppet.take(), puppet.take_ahead()

    changed = house.jobs.control.change_job(Verb.KILL, job_id)
    alone = house.jobs.control.change_task(Verb.KILL, given[1].task_id)

    assert (changed.tasks, alone.tasks) == (1, 0)
    assert [task.state for task in house.tasks(job_id, 0)[1:]] == [State.FAILED, State.QUEUED]
    puppet.listen()
    assert [stop.task_id for stop in puppet.stopped] == [started[1].task_id]
    puppet.finish(given)
    assert house.tasks(job_id, 0)[2].attempt == 1


@pytest.mark.parametrize(("verb", "state"), [(Verb.CANCEL, State.CANCELLED), (Verb.SKIP, State.SKIPPED)])
def test_what_is_given_is_ended_as_queued_and_was_an_attempt_only_if_it_had_started(
    house: House, verb: Verb, state: State
) -> None:
    puppet = Puppet(house)
    jobs = [house.submit("one"), house.submit("one")]
    waits, begun = puppet.take_ahead(), puppet.take_ahead()
    for job_id in jobs:
        house.jobs.control.change_task(verb, first(house, job_id).task_id)
    assert [(first(house, job_id).state, attempts(house, job_id)) for job_id in jobs] == [(state, []), (state, [])]

    puppet.finish(waits, Outcome.STOPPED, begun=False)
    puppet.finish(begun, Outcome.STOPPED, seconds=0.04)

    assert [first(house, job_id).attempt for job_id in jobs] == [0, 1]
    assert [one.outcome for one in attempts(house, jobs[1])] == [Outcome.STOPPED]


@pytest.mark.parametrize("of", ["job", "stage", "task"])
def test_a_pause_asks_back_what_has_not_started(house: House, of: str) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", urls(2))
    started, given = puppet.take(), puppet.take_ahead()
    control = house.jobs.control
    if of == "job":
        control.change_job(Verb.PAUSE, job_id)
    elif of == "stage":
        control.change_stage(Verb.PAUSE, job_id, 0)
    else:
        control.change_task(Verb.PAUSE, given[1].task_id)
    puppet.listen()
    assert [orders.recall for orders in puppet.heard if orders.recall] == [(ref(given),)]
    assert not puppet.stopped

    puppet.report(released=(ref(given),), room={})
    puppet.finish(started)

    shown = house.tasks(job_id, 0)[2]
    assert (shown.state, shown.attempt) == (State.PENDING if of == "task" else State.QUEUED, 0)


def test_what_is_held_of_a_failing_stage_is_asked_back_and_withdrawn(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(3))
    failed, runs, given = puppet.take(), puppet.take(), puppet.take_ahead()
    puppet.room = {}
    puppet.finish(failed, Outcome.FAILED)
    assert ref(given) in {one for orders in puppet.heard for one in orders.recall}

    puppet.report(released=(ref(given),))
    puppet.finish(runs)

    assert house.view(job_id).state is State.FAILED
    states = [(task.state, task.attempt) for task in house.tasks(job_id, 0)[1:]]
    assert states == [(State.FAILED, 1), (State.COMPLETED, 1), (State.CANCELLED, 0)]


# --- lost workers


def test_of_what_a_lost_worker_held_only_what_it_had_started_is_an_attempt(house: House) -> None:
    puppet = Puppet(house)
    log = StartLog(house.volume, puppet.worker)
    begun, waiting, told = (house.submit("one") for _ in range(3))
    for _ in range(3):
        held = puppet.take_ahead()
        if held[0].job_id != waiting:
            log.add_start(ref(held))
        if held[0].job_id == told:
            puppet.start(held)
    house.clock.pass_(15.1)
    house.turn()

    assert [[(one.attempt, one.outcome) for one in attempts(house, job_id)] for job_id in (begun, waiting, told)] == [
        [(1, Outcome.LOST)], [], [(1, Outcome.LOST)],
    ]  # fmt: skip
    other = Puppet(house, "other")
    numbers = {held[0].job_id: held[1].number for held in (other.take_ahead() for _ in range(3))}
    assert numbers == {begun: 2, waiting: 1, told: 2}


def test_a_loss_counts_against_a_task_that_may_have_started_and_told_of_nothing(house: House) -> None:
    job_id = house.submit("one")
    for life in range(3):
        puppet = Puppet(house, name=f"life {life}")
        StartLog(house.volume, puppet.worker)
        puppet.take_ahead()
        house.clock.pass_(15.1)
        house.turn()

    assert first(house, job_id).state is State.FAILED
    assert "worker_lost" in (house.view(job_id).error or "")
    assert attempts(house, job_id) == []


def test_a_cancelled_task_whose_worker_dies_before_it_tells_of_the_start_has_had_its_attempt(house: House) -> None:
    puppet = Puppet(house)
    log = StartLog(house.volume, puppet.worker)
    job_id = house.submit("one")
    held = puppet.take_ahead()
    log.add_start(ref(held))
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    house.jobs.control.change_job(Verb.RETRY, job_id)
    house.clock.pass_(15.1)
    house.turn()

    again = Puppet(house, "other").take_ahead()

    assert isinstance(ref(again), AttemptRef)
    assert again[1].number == 2
    assert len(attempts(house, job_id)) == 1
