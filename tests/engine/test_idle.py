"""An engine that has nothing to do hardly touches the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.datastore.open import open_datastore
from controller.datastore.port import Reader, Transaction
from shared.clock import Clock
from tests.engine import house as houses
from tests.engine.house import House, Puppet
from tests.engine.jobs import CATALOGUE


class CountingStore:
    """A real datastore that counts its transactions and the looks into it."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._store = open_datastore(url, clock=clock)
        self.transactions = 0
        self.looks = 0
        self.job, self.check, self.close = self._store.job, self._store.check, self._store.close

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        self.transactions += 1
        with self._store.write() as tx:
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
