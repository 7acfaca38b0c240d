"""Orders that no worker took: their attempts run elsewhere, also when the store fails at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from echelon.controller.core.states import State
from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.broker.port import Outgoing
from echelon.shared.clock import Clock
from echelon.shared.errors import StoreUnavailable
from echelon.shared.ids import new_worker_id
from echelon.shared.messages import ANY_QUEUE, REPORTS, Report, WorkerCard
from tests.engine import house as houses
from tests.engine.house import House

CATALOGUE = """
    tasks:
      step: {exec_command: "true"}
    jobs:
      one: {stages: [{name: One, task_class: step}]}
"""


class FailingStore:
    """A real datastore whose next transactions do not commit."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._store = open_datastore(url, clock=clock)
        self.failures = 0
        self.read, self.find_job = self._store.read, self._store.find_job
        self.check, self.close = self._store.check, self._store.close

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._store.write() as tx:
            yield tx
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("a test says so")


def test_attempts_that_came_back_are_not_forgotten_when_the_store_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(houses, "open_datastore", FailingStore)
    house = House(tmp_path, CATALOGUE)
    job_id = house.submit("one")
    gone = new_worker_id()
    room = {ANY_QUEUE: 1}
    card = WorkerCard("gone", "host", 1, "test", room)
    house.broker.publish([Outgoing(REPORTS, Report(worker=gone, number=1, room=room, card=card))])
    house.controller.engine.turn(0.0)

    house.store.failures = 1
    with pytest.raises(StoreUnavailable):
        house.controller.engine.turn(0.0)
    house.turn()

    assert [task.state for task in house.tasks(job_id)] == [State.QUEUED]
    house.close()
