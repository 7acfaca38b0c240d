"""Orders whose confirm got lost with the connection: their workers may have them, so others get none of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Confirmed, Outgoing, Unconfirmed
from echelon.shared.errors import StoreUnavailable
from echelon.shared.ids import JobId
from echelon.shared.lease import ORDER_RESENT_FOR
from echelon.shared.messages import Orders
from echelon.shared.volume.starts import StartLog
from tests.engine.house import House, Puppet, ref

CATALOGUE = """
    tasks:
      step: {exec_command: "true"}
      list: {exec_command: "true"}
    jobs:
      one: {stages: [{name: One, task_class: step}]}
      many: {stages: [{name: Many, spawn_task: list, task_class: step}]}
"""
LEASE = 15.0


class DoubtfulBroker(MemoryBroker):
    """Queues in memory whose connection goes before it has confirmed an order that grants something."""

    def __init__(self) -> None:
        super().__init__()
        #: So many of the next orders; and whether they arrive all the same.
        self.doubt, self.deliver = 0, True
        #: So many of the next orders are refused.
        self.refuse = 0
        self.away = False
        self.sent: list[Orders] = []

    @property
    def condition(self) -> str:
        return "connected" if self.connected else "away"

    @property
    def connected(self) -> bool:
        return not self.away

    def publish(self, messages: Sequence[Outgoing], *, confirmed: Confirmed | None = None) -> None:
        kept, refused, unknown = [], [], []
        for one in messages:
            granting = isinstance(one.message, Orders) and one.message.grants
            if granting and isinstance(one.message, Orders):
                self.sent.append(one.message)
            if self.away or (granting and self.refuse):
                self.refuse -= not self.away
                refused.append(one)
                continue
            if granting and self.doubt:
                self.doubt -= 1
                unknown.append(one)
                if not self.deliver:
                    continue
            kept.append(one)

        def told(unconfirmed: Unconfirmed) -> None:
            if confirmed is not None:
                confirmed(Unconfirmed([*refused, *unconfirmed.refused], unknown))

        super().publish(kept, confirmed=told)


@pytest.fixture
def broker() -> DoubtfulBroker:
    return DoubtfulBroker()


@pytest.fixture
def house(tmp_path: Path, broker: DoubtfulBroker) -> Iterator[House]:
    house = House(tmp_path, CATALOGUE, broker=broker)
    yield house
    house.close()


def later(house: House, seconds: float = 1.0) -> None:
    house.clock.pass_(seconds)
    house.turn()


def claims(house: House, job_id: JobId) -> list[tuple[State, int]]:
    return [(task.state, task.claim) for task in house.tasks(job_id)]


def test_an_order_that_arrived_before_the_connection_went_is_sent_again_and_its_attempt_runs_once(
    house: House, broker: DoubtfulBroker
) -> None:
    puppet, other = Puppet(house, room={"*": 1}), Puppet(house, name="other", room={"*": 1})
    broker.doubt = 1
    job_id = house.submit("one")
    later(house)
    puppet.listen(), other.listen()  # type: ignore[func-returns-value]

    holder = puppet if puppet.granted else other
    assert claims(house, job_id) == [(State.QUEUED, 1)]
    assert broker.sent[0] == broker.sent[1]
    assert [ref(held) for held in [*puppet.granted, *other.granted]] == [ref(holder.granted[0])] * 2
    holder.finish(holder.granted[0])
    later(house)
    assert claims(house, job_id) == [(State.COMPLETED, 1)]
    assert len(broker.sent) == 2


def test_an_order_that_was_lost_with_the_connection_arrives_when_there_is_another(
    house: House, broker: DoubtfulBroker
) -> None:
    puppet = Puppet(house)
    broker.doubt, broker.deliver = 1, False
    job_id = house.submit("one")
    broker.away = True
    later(house, 2.0)
    puppet.listen()
    assert puppet.granted == []

    broker.away = False
    later(house)

    puppet.finish(puppet.take())
    assert claims(house, job_id) == [(State.COMPLETED, 1)]


def test_an_order_in_doubt_that_is_refused_is_not_handed_back_for_it_may_have_arrived_the_first_time(
    house: House, broker: DoubtfulBroker
) -> None:
    puppet = Puppet(house)
    broker.doubt = 1
    job_id = house.submit("one")
    broker.refuse = 2
    later(house)
    later(house)
    assert claims(house, job_id) == [(State.QUEUED, 1)]

    later(house)
    puppet.finish(puppet.take())

    assert [len(broker.sent), claims(house, job_id)] == [4, [(State.COMPLETED, 1)]]


def test_an_order_that_is_refused_at_once_is_handed_back_at_once(house: House, broker: DoubtfulBroker) -> None:
    puppet = Puppet(house)
    broker.refuse = 1
    job_id = house.submit("one")
    puppet.heartbeat()

    assert claims(house, job_id) == [(State.QUEUED, 2)]


def test_an_order_in_doubt_is_sent_when_its_lease_has_run_out_for_its_worker_hands_it_back_at_once(
    house: House, broker: DoubtfulBroker
) -> None:
    puppet = Puppet(house)
    broker.doubt, broker.deliver = 1, False
    job_id = house.submit("one")
    broker.away = True
    later(house, 3.0 * LEASE)
    broker.away = False
    later(house)

    late = puppet.take()
    puppet.report(room=puppet.room, released=(ref(late),))

    assert claims(house, job_id) == [(State.QUEUED, 2)]
    puppet.finish(puppet.take())
    assert claims(house, job_id) == [(State.COMPLETED, 2)]


def test_an_order_in_doubt_is_forgotten_when_it_is_older_than_workers_remember_and_the_watchdog_judges(
    house: House, broker: DoubtfulBroker
) -> None:
    puppet = Puppet(house)
    StartLog(house.volume, puppet.worker).close()
    broker.doubt, broker.deliver = 1, False
    job_id = house.submit("one")
    broker.away = True
    later(house, ORDER_RESENT_FOR + 0.1)
    broker.away = False
    later(house)
    assert (len(broker.sent), claims(house, job_id)) == (1, [(State.QUEUED, 1)])
    for _ in range(30):
        puppet.heartbeat()
        later(house)

    assert claims(house, job_id) == [(State.QUEUED, 2)]
    with house.store.read() as reader:
        assert reader.list_attempts(house.tasks(job_id)[0].task_id) == []


def test_an_order_with_an_attempt_that_was_cancelled_meanwhile_is_not_sent_again(
    house: House, broker: DoubtfulBroker
) -> None:
    puppet = Puppet(house)
    StartLog(house.volume, puppet.worker).close()
    job_id = house.submit("many")
    spawning = puppet.take()
    broker.doubt, broker.deliver = 1, False
    puppet.finish(spawning, items=[{}, {}, {}])
    first, second, third = house.tasks(job_id, 0)[1:]
    house.jobs.control.change_task(Verb.CANCEL, second.task_id)
    sent = len(broker.sent)
    later(house)
    assert len(broker.sent) == sent
    for _ in range(16):
        later(house)
        puppet.heartbeat()

    granted = {held[1].task_id for held in puppet.granted}
    assert granted == {first.task_id, third.task_id}


def test_an_order_in_doubt_is_not_forgotten_when_the_store_does_not_answer(
    house: House, broker: DoubtfulBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    broker.doubt, broker.deliver = 1, False
    house.submit("one")

    def away() -> None:
        raise StoreUnavailable

    house.clock.pass_(1.0)
    with monkeypatch.context() as patch:
        patch.setattr(house.store, "write", away)
        with pytest.raises(StoreUnavailable):
            house.turn(1)
    later(house)

    assert puppet.take()[1].attempt == 1
