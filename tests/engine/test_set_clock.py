"""Somebody sets the clock of the datastore by an hour: no lease ends for that alone, and none lasts for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.errors import StoreUnavailable
from echelon.shared.lease import RETURN_TIME
from echelon.shared.messages import Outcome
from tests.engine.house import House, Make, Puppet, ref

CATALOGUE = """
    tasks:
      step: {exec_command: "true"}
      flaky: {exec_command: "true", retry: {limit: 2, delay: 30s}}
    jobs:
      one: {stages: [{name: One, task_class: step}]}
      flaky: {stages: [{name: One, task_class: flaky}]}
"""
HOUR = 3600.0


@pytest.fixture
def house(make: Make) -> House:
    return make(CATALOGUE)


def silence(house: House, seconds: int) -> None:
    """Let time pass in which the engine turns and no worker is heard."""
    for _ in range(seconds):
        house.clock.pass_(1.0)
        house.turn(1)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_worker_that_renews_in_time_keeps_its_attempt_when_the_clock_is_set(house: House, step: float) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    silence(house, 3)
    puppet.heartbeat(running=(ref(held),))
    for _ in range(6):
        house.clock.skew += step
        silence(house, 5)
        puppet.heartbeat(running=(ref(held),))

    assert house.tasks(job_id)[0].state is State.RUNNING
    puppet.finish(held)
    assert house.view(job_id).state is State.COMPLETED
    assert house.tasks(job_id)[0].attempt == 1


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_silent_worker_is_lost_one_lease_after_the_clock_was_set(house: House, step: float) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    # The engine has heard for a lease: it may blame.
    silence(house, 10)
    house.clock.skew += step
    silence(house, 13)
    kept = house.tasks(job_id)[0].state
    silence(house, 4)

    assert kept is State.RUNNING
    assert house.tasks(job_id)[0].state is State.QUEUED


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_task_waits_a_lease_for_its_last_attempt_after_the_clock_was_set(house: House, step: float) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    puppet.room = {}
    for _ in range(2):
        silence(house, 10)
        puppet.heartbeat(running=(ref(held),))
    house.jobs.control.change_task(Verb.RETRY, held[1].task_id)
    silence(house, 2)
    house.clock.skew += step
    silence(house, 12)
    kept = house.tasks(job_id)[0].state
    silence(house, 5)

    assert kept is State.PENDING
    assert house.tasks(job_id)[0].state is State.QUEUED


@pytest.mark.parametrize("paused", [False, True])
def test_a_task_whose_last_attempt_is_gone_does_not_wait_for_a_clock_that_was_set_back(
    house: House, paused: bool
) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    house.jobs.control.change_task(Verb.RETRY, held[1].task_id)
    if paused:
        house.jobs.control.change_task(Verb.PAUSE, held[1].task_id)
    silence(house, 2)
    house.clock.skew -= HOUR
    silence(house, 2)
    if paused:
        house.jobs.control.change_task(Verb.RESUME, held[1].task_id)
    puppet.room = {}
    puppet.finish(held, Outcome.STOPPED)
    silence(house, 2)

    assert house.tasks(job_id)[0].state is State.QUEUED


@pytest.mark.parametrize("paused", [False, True])
def test_a_retry_waits_no_longer_after_the_clock_was_set_back(house: House, paused: bool) -> None:
    puppet = Puppet(house)
    job_id = house.submit("flaky")
    held = puppet.take()
    puppet.room = {}
    puppet.finish(held, Outcome.FAILED)
    if paused:
        house.jobs.control.change_task(Verb.PAUSE, held[1].task_id)
    silence(house, 2)
    early = house.tasks(job_id)[0].state
    house.clock.skew -= HOUR
    silence(house, 2)
    if paused:
        assert house.tasks(job_id)[0].state is State.PENDING
        house.jobs.control.change_task(Verb.RESUME, held[1].task_id)
        silence(house, 1)

    assert early is State.PENDING
    assert house.tasks(job_id)[0].state is State.QUEUED


def test_what_is_retried_just_after_the_clock_was_set_waits_for_its_last_attempt_all_the_same(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    house.clock.skew += HOUR

    house.jobs.control.change_job(Verb.RETRY, job_id)

    assert house.tasks(job_id)[0].state is State.PENDING
    puppet.finish(held, Outcome.STOPPED)
    assert puppet.take()[1].attempt == 2


@pytest.mark.parametrize("steps", [(-HOUR, -HOUR), (HOUR, -HOUR)])
def test_what_is_retried_between_two_changes_of_the_clock_waits_for_no_clock(
    house: House, steps: tuple[float, float]
) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    puppet.room = {}
    puppet.heartbeat(running=(ref(held),))
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    for step in steps:
        house.clock.skew += step
        silence(house, 2)
        house.jobs.control.change_job(Verb.RETRY, job_id)
    assert house.tasks(job_id)[0].state is State.PENDING

    puppet.finish(held, Outcome.STOPPED)
    silence(house, 1)

    assert house.tasks(job_id)[0].state is State.QUEUED


def test_a_retry_waits_no_longer_than_its_delay_however_often_the_clock_is_set(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("flaky")
    puppet.room = {}
    puppet.finish(puppet.take(), Outcome.FAILED)
    for step in (-HOUR, -60.0, HOUR, -2 * HOUR):
        house.clock.skew += step
        silence(house, 2)
    early = house.tasks(job_id)[0].state
    silence(house, 31)

    assert (early, house.tasks(job_id)[0].state) == (State.QUEUED, State.QUEUED)


def test_a_clock_that_was_set_back_is_remembered_when_the_store_fails_just_then(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    silence(house, 2)
    write = house.store.write

    @contextmanager
    def failing() -> Iterator[Transaction]:
        with write() as tx:
            yield tx
            raise StoreUnavailable("a test says so")

    house.clock.skew -= HOUR
    house.clock.pass_(1.0)
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr(house.store, "write", failing)
        house.turn(3)

    # The worker is never heard again, and its task is missed when its lease is over, not an hour later.
    silence(house, 40)
    assert house.tasks(job_id)[0].state is State.QUEUED


def test_the_room_of_a_worker_that_is_gone_is_not_believed_because_the_clock_was_set_back(house: House) -> None:
    Puppet(house)
    house.clock.skew -= HOUR
    silence(house, 20)

    job_id = house.submit("one")

    assert house.tasks(job_id)[0].state is State.QUEUED


def test_an_order_that_was_lost_takes_up_no_room_for_as_long_as_the_clock_was_set_back(house: House) -> None:
    puppet = Puppet(house, room={"default": 1})
    house.submit("one")
    puppet.orders.ack(puppet.orders.take_deliveries(limit=100, timeout=0.0))
    house.clock.skew -= HOUR
    silence(house, 20 + int(RETURN_TIME))
    puppet.heartbeat()

    assert len(puppet.granted) == 1


def test_a_worker_that_was_heard_before_the_clock_was_set_back_is_lost_all_the_same(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    silence(house, 10)
    house.clock.skew -= HOUR
    silence(house, 17)

    with house.store.read() as reader:
        assert [one.outcome for one in reader.list_attempts(held[1].task_id)] == [Outcome.LOST]
    assert house.tasks(job_id)[0].attempt == 1


def test_nothing_waits_an_hour_longer_because_the_clock_was_set_back_while_no_controller_was_there(
    house: House, tmp_path: Path
) -> None:
    puppet = Puppet(house)
    silent, killed, flaky = house.submit("one"), house.submit("one"), house.submit("flaky")
    puppet.listen()
    held = {grant.job_id: (grant, task) for grant, task in puppet.granted}
    puppet.room = {}
    puppet.start(*held.values())
    house.jobs.control.change_task(Verb.RETRY, held[killed][1].task_id)
    puppet.finish(held[flaky], Outcome.FAILED)
    house.controller.engine.close()
    again = House(tmp_path / "0", CATALOGUE, broker=house.broker)
    again.clock.seconds, again.clock.skew = house.clock.seconds + 2.0, -HOUR
    silence(again, 13)
    before = [again.tasks(job_id)[0].state for job_id in (silent, killed, flaky)]
    silence(again, 20)
    after = [again.tasks(job_id)[0].state for job_id in (silent, killed, flaky)]
    again.controller.engine.close()
    again.store.close()

    assert before == [State.RUNNING, State.PENDING, State.QUEUED]
    assert after == [State.QUEUED] * 3
