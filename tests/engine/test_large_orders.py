"""Orders by bytes: what a worker is granted fits into messages, whatever it holds, and what fits into none fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from echelon.controller.core.states import State
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Confirmed, Outgoing, Unconfirmed
from echelon.shared.codec import MAX_BYTES, decode_message, encode_message
from echelon.shared.errors import InvalidMessage
from echelon.shared.messages import Orders
from echelon.shared.volume.starts import StartLog
from tests.engine.house import House, Make, Puppet, ref
from tests.engine.jobs import spawned

#: A single value has at most 64 KiB.
NAMES = [f"part{number}" for number in range(64)]
CATALOGUE = f"""
    tasks:
      list: {{exec_command: "true"}}
      step: {{exec_command: "true"}}
      work:
        input: {{{", ".join(f"{name}: {{source: parameter}}" for name in NAMES)}}}
        exec_command: "true"
    jobs:
      many:
        stages:
          - {{name: Many, spawn_task: list, task_class: work, job_failed_on_error: false}}
      one: {{stages: [{{name: One, task_class: step}}]}}
"""
KIB = 1024


class EncodingBroker(MemoryBroker):
    """Queues in memory that take what can be written as bytes, and nothing else."""

    longest = MAX_BYTES

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[Orders, int]] = []
        #: Orders with these places among all that are sent are lost.
        self.lose: set[int] = set()

    def publish(self, messages: Sequence[Outgoing], *, confirmed: Confirmed | None = None) -> None:
        kept, refused = [], []
        for outgoing in messages:
            try:
                body = encode_message(outgoing.message)
            except InvalidMessage:
                refused.append(outgoing)
                continue
            if isinstance(outgoing.message, Orders):
                self.sent.append((outgoing.message, len(body)))
                if len(self.sent) - 1 in self.lose:
                    continue
            kept.append(replace(outgoing, message=decode_message(body)))

        def told(unconfirmed: Unconfirmed) -> None:
            if confirmed is not None:
                confirmed(Unconfirmed([*unconfirmed.refused, *refused]))

        super().publish(kept, confirmed=told)

    @property
    def granting(self) -> list[Orders]:
        """Return the orders that granted something."""
        return [orders for orders, _ in self.sent if orders.grants]


@pytest.fixture
def broker() -> EncodingBroker:
    return EncodingBroker()


@pytest.fixture
def house(make: Make, broker: EncodingBroker) -> House:
    return make(CATALOGUE, broker=broker)


def items(count: int, size: int, letter: str = "x") -> list[object]:
    return [dict.fromkeys(NAMES, letter * (size // len(NAMES))) for _ in range(count)]


#: An item's values have at most 2**20 characters together, and such a one takes four bytes of a message.
HUGE = items(1, 16 * KIB * len(NAMES), "\N{GRINNING FACE}")


@pytest.mark.parametrize(("count", "size"), [(8, 600 * KIB), (512, 9 * KIB)])
def test_a_fan_out_of_more_bytes_than_a_message_may_have_runs_once_each(
    house: House, broker: EncodingBroker, count: int, size: int
) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", items(count, size))
    house.turn(5)
    puppet.run_all()

    assert house.view(job_id).state is State.COMPLETED
    assert {task.claim for task in house.tasks(job_id, 0)} == {1}
    assert max(length for _, length in broker.sent) <= MAX_BYTES
    assert house.jobs.counters.registry.get_sample_value("echelon_orders_undelivered_total") == 0


def test_a_large_order_is_sent_in_parts_and_only_the_last_one_carries_its_number(
    house: House, broker: EncodingBroker
) -> None:
    puppet = Puppet(house)
    spawned(house, puppet, "many", items(8, 600 * KIB))
    puppet.listen()

    first, *parts = broker.granting
    assert first.number == 1
    assert [orders.number for orders in parts] == [0] * (len(parts) - 1) + [2]
    assert {orders.answers for orders in parts} == {parts[-1].answers}
    assert sum(len(grant.tasks) for orders in parts for grant in orders.grants) == 8


def test_a_small_order_is_one_message(house: House, broker: EncodingBroker) -> None:
    puppet = Puppet(house, room={"*": 1000})
    spawned(house, puppet, "many", items(500, 10))

    assert [sum(len(grant.tasks) for grant in orders.grants) for orders in broker.granting] == [1, 500]


def test_a_worker_without_the_last_part_of_an_order_is_granted_no_more_than_it_has_room_for(
    house: House, broker: EncodingBroker
) -> None:
    puppet = Puppet(house, room={"*": 8})
    # An answer to the first sign of life, the spawn task's order, and eight parts of 600 KiB each.
    broker.lose = {9}
    spawned(house, puppet, "many", items(16, 600 * KIB))
    puppet.listen()
    held = list(puppet.granted)
    puppet.room = {"*": 8 - len(held)}
    puppet.heartbeat(tuple(map(ref, held)))

    assert len(held) < 8 and puppet.seen == 1
    assert len(puppet.granted) == len(held)


def test_what_was_in_a_lost_part_is_handed_back_when_its_lease_ends_and_the_job_completes(
    house: House, broker: EncodingBroker
) -> None:
    puppet = Puppet(house, room={"*": 8})
    # It keeps a file of its starts, as every worker does.
    StartLog(house.volume, puppet.worker).close()
    broker.lose = {4}
    job_id = spawned(house, puppet, "many", items(8, 600 * KIB))
    for _ in range(20):
        puppet.run_all()
        house.clock.pass_(4.0)
        puppet.heartbeat()

    assert house.view(job_id).state is State.COMPLETED
    assert sorted(task.claim for task in house.tasks(job_id, 0)) == [1] * 8 + [2]
    assert {task.attempt for task in house.tasks(job_id, 0)} == {1}


@pytest.mark.parametrize("neighbours", [0, 3])
def test_an_attempt_that_fits_into_no_message_fails_and_says_why_and_its_neighbours_go_on(
    house: House, broker: EncodingBroker, neighbours: int
) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", [*items(neighbours, 10), *HUGE])
    puppet.run_all()
    puppet.heartbeat()

    *others, huge = sorted(house.tasks(job_id, 0), key=lambda task: task.index)[1:]
    assert house.view(job_id).state is State.COMPLETED
    assert (huge.state, huge.attempt) == (State.FAILED, 1)
    assert huge.error is not None and "bytes" in huge.error and "file on the volume" in huge.error
    assert {task.state for task in others} <= {State.COMPLETED} and len(others) == neighbours


def test_a_worker_that_was_granted_only_what_fits_into_no_message_sees_the_orders_number_all_the_same(
    house: House, broker: EncodingBroker
) -> None:
    puppet = Puppet(house, room={"*": 1})
    spawned(house, puppet, "many", HUGE)
    puppet.heartbeat()
    house.submit("one")
    puppet.heartbeat()

    assert puppet.seen >= 2
    assert [grant.recipe.task_class for grant, _ in puppet.granted] == ["step"]
