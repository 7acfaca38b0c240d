"""Broker and store go away and come back: nobody is blamed for what could not be heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from echelon.controller.core.states import State
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.turn.loop import Engine
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Delivery
from echelon.shared.lease import RETURN_TIME
from tests.engine.house import House, Puppet, ref

CATALOGUE = """
    tasks: {step: {exec_command: "true"}}
    jobs: {one: {stages: [{name: One, task_class: step}]}}
"""


class CutBroker(MemoryBroker):
    """A broker that can be away."""

    away = False

    @property
    def condition(self) -> str:
        return "connected" if self.connected else "away"

    @property
    def connected(self) -> bool:
        return not self.away


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, CATALOGUE, broker=CutBroker())
    yield house
    house.close()


LEASE = 15.0


def engine(house: House) -> Engine:
    return house.controller.engine


def silence(house: House, seconds: float) -> None:
    """Let time pass in which the engine turns and no worker is heard."""
    for _ in range(int(seconds)):
        house.clock.pass_(1.0)
        house.turn(1)


def test_no_lease_expires_while_the_broker_is_away_nor_before_workers_could_be_heard_again(house: House) -> None:
    broker = house.broker
    assert isinstance(broker, CutBroker)
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    silence(house, 3)
    broker.away = True
    silence(house, 600)
    assert not engine(house).hearing.is_able
    broker.away = False
    silence(house, LEASE + RETURN_TIME - 1)

    assert house.tasks(job_id)[0].state is State.RUNNING
    puppet.finish(held)
    assert house.view(job_id).state is State.COMPLETED
    assert house.tasks(job_id)[0].attempt == 1


def test_a_worker_that_stays_silent_after_an_outage_is_lost_after_a_lease_and_the_time_to_come_back(
    house: House,
) -> None:
    broker = house.broker
    assert isinstance(broker, CutBroker)
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    broker.away = True
    silence(house, 60)
    broker.away = False
    silence(house, LEASE + RETURN_TIME + 2)

    assert engine(house).hearing.is_able
    assert house.tasks(job_id)[0].state is State.QUEUED


def test_a_worker_that_a_new_controller_has_heard_and_that_falls_silent_is_lost_one_lease_later(
    house: House, tmp_path: Path
) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    house.controller.engine.close()
    again = House(tmp_path, CATALOGUE, broker=house.broker)
    again.clock.pass_(60.0)
    again.turn()
    puppet.house = again
    puppet.heartbeat((ref(held),))
    silence(again, LEASE - 1)
    assert again.tasks(job_id)[0].state is State.RUNNING
    silence(again, 2)

    assert again.tasks(job_id)[0].state is State.QUEUED
    again.controller.engine.close()
    again.store.close()


def test_a_controller_that_has_just_started_blames_nobody(house: House, tmp_path: Path) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    house.close()
    again = House(tmp_path, CATALOGUE)
    try:
        again.clock.pass_(3600.0)
        again.turn()
        silence(again, LEASE + RETURN_TIME - 2)
        assert again.tasks(job_id)[0].state is State.RUNNING
        silence(again, 4)
        assert again.tasks(job_id)[0].state is State.QUEUED
    finally:
        again.close()


def test_who_is_heard_when_the_broker_is_back_has_a_longer_lease_that_no_other_renewal_shortens(house: House) -> None:
    broker = house.broker
    assert isinstance(broker, CutBroker)
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    silence(house, 2)
    broker.away = True
    silence(house, 60)
    broker.away = False
    silence(house, 2)
    begun = house.clock.monotonic()
    for _ in range(3):
        puppet.heartbeat((ref(held),))
        house.clock.pass_(5.0)
    leases = [orders.lease for orders in puppet.heard[-3:]]
    silence(house, begun + LEASE + RETURN_TIME - 3.0 - house.clock.monotonic())

    assert LEASE + RETURN_TIME >= leases[0] > leases[1] > leases[2] == LEASE
    assert house.tasks(job_id)[0].state is State.RUNNING


def test_a_controller_that_was_stopped_while_it_waited_blames_no_worker_for_what_it_did_not_hear(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    silence(house, 2)
    subscription = engine(house)._subscription
    take = subscription.take_deliveries

    def stopped(*, limit: int, timeout: float) -> list[Delivery]:
        house.clock.pass_(LEASE + 5.0)
        return take(limit=limit, timeout=timeout)

    with monkeypatch.context() as patch:
        patch.setattr(subscription, "take_deliveries", stopped)
        house.turn(1)
    silence(house, 5)

    assert house.tasks(job_id)[0].state is State.RUNNING
    puppet.heartbeat((ref(held),))
    puppet.finish(held)
    assert house.tasks(job_id)[0].attempt == 1


def hang(house: House, monkeypatch: pytest.MonkeyPatch, wait: Callable[[], None], *, at: int = 1) -> None:
    """Let the `at`-th transaction from now wait for a lock that somebody else has."""
    write, begun = house.store.write, []

    @contextmanager
    def waiting() -> Iterator[Transaction]:
        begun.append(1)
        if len(begun) == at:
            wait()
        with write() as tx:
            yield tx

    monkeypatch.setattr(house.store, "write", waiting)


def test_a_controller_says_that_it_is_not_able_while_the_store_lets_it_wait(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.turn()
    seen = []

    def wait() -> None:
        for _ in range(4):
            seen.append(engine(house).hearing.is_able)
            house.clock.pass_(1.0)

    hang(house, monkeypatch, wait)
    engine(house).wake()
    house.turn(1)

    assert seen == [True, True, True, False]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_after_a_wait_for_the_store_no_lease_expires_before_workers_could_be_heard_again(
    house: House, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    silence(house, 14)
    hang(house, monkeypatch, lambda: house.clock.pass_(8.0), at=at)
    if at == 1:
        engine(house).wake()
    # The lease runs out meanwhile: in a claim, in the look for it, or when it is about to be written off.
    silence(house, 12)

    assert house.tasks(job_id)[0].state is State.RUNNING
    puppet.finish(held)
    assert house.tasks(job_id)[0].attempt == 1


def test_a_worker_that_stays_silent_after_a_wait_for_the_store_is_lost_a_lease_and_a_way_back_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    hang(house, monkeypatch, lambda: house.clock.pass_(8.0))
    silence(house, 13 + RETURN_TIME)
    assert house.tasks(job_id)[0].state is State.RUNNING
    silence(house, 5)

    assert house.tasks(job_id)[0].state is State.QUEUED
