"""An engine that has nothing to do hardly touches the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.base.requests import Submission
from echelon.shared.clock import Clock
from echelon.shared.messages import REPORTS
from tests.engine import house as houses
from tests.engine.house import House, Puppet
from tests.engine.jobs import CATALOGUE


class CountingStore:
    """A real datastore that counts its transactions and the looks into it."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._store = open_datastore(url, clock=clock)
        self.transactions = 0
        self.looks = 0
        #: Called in the middle of every transaction.
        self.meanwhile: Callable[[], None] = lambda: None
        self.find_job, self.check, self.close = self._store.find_job, self._store.check, self._store.close

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        self.transactions += 1
        with self._store.write() as tx:
            self.meanwhile()
            yield tx

    @contextmanager
    def read(self) -> Iterator[Reader]:
        self.looks += 1
        with self._store.read() as reader:
            yield reader


def test_an_idle_engine_looks_once_a_second_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(houses, "open_datastore", CountingStore)
    house = House(tmp_path, CATALOGUE)
    house.submit("one")
    assert Puppet(house).run_all() == 1
    house.turn()
    store = house.store
    assert isinstance(store, CountingStore)

    store.transactions = 0
    for _ in range(10):
        house.clock.pass_(1.0)
        house.turn(5)

    assert store.transactions == 10
    house.close()


def test_a_job_that_was_accepted_here_is_run_without_a_look_at_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(houses, "open_datastore", CountingStore)
    house = House(tmp_path, CATALOGUE)
    puppet = Puppet(house)
    house.submit("one")
    assert puppet.run_all() == 1
    store = house.store
    assert isinstance(store, CountingStore)

    store.looks = 0
    house.submit("one")

    assert puppet.run_all() == 1
    assert store.looks == 0
    house.close()


def test_a_job_is_granted_in_the_next_turn_without_a_message_from_the_controller_to_itself(tmp_path: Path) -> None:
    house = House(tmp_path, CATALOGUE)
    puppet = Puppet(house)
    house.turn()
    engine = house.controller.engine
    assert engine.rest_for(1.0) > 0.0, "there is nothing to do"
    reports = house.broker.subscribe([REPORTS], prefetch=1)

    house.jobs.submit_job(Submission("one", {}))

    assert reports.take_deliveries(limit=1, timeout=0.0) == []
    assert engine.rest_for(1.0) == 0.0
    engine.turn(0.0)
    puppet.listen()
    assert len(puppet.granted) == 1
    house.close()


def test_a_wake_up_in_the_middle_of_a_turn_counts_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(houses, "open_datastore", CountingStore)
    house = House(tmp_path, CATALOGUE)
    puppet = Puppet(house)
    house.turn()
    engine, store = house.controller.engine, house.store
    assert isinstance(store, CountingStore)
    house.jobs.submit_job(Submission("one", {}))

    store.meanwhile = engine.wake
    engine.turn(0.0)
    store.meanwhile = lambda: None

    assert engine.rest_for(1.0) == 0.0
    before = store.transactions
    engine.turn(0.0)
    assert store.transactions == before + 1
    puppet.listen()
    assert len(puppet.granted) == 1
    house.close()
