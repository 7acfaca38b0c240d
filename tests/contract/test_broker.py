"""The suite that every adapter of `echelon.shared.broker.port.Broker` passes."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Broker, Delivery, Outgoing, Subscription, Unconfirmed
from echelon.shared.broker.rabbitmq import RabbitBroker
from echelon.shared.codec import MAX_BYTES, encode_message
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import Finished, Message, Outcome, Report
from tests.contract.rabbit import SIGNER

PATIENCE = 10.0
#: A message whose content does not matter.
SMALL = Report(worker=WorkerId("small"), number=0)


@dataclass
class Confirmations:
    """Collects the unconfirmed messages of a broker."""

    told: list[Unconfirmed] = field(default_factory=list)
    heard: threading.Event = field(default_factory=threading.Event)

    def __call__(self, unconfirmed: Unconfirmed) -> None:
        self.told.append(unconfirmed)
        self.heard.set()


def take_all(subscription: Subscription, count: int) -> list[Delivery]:
    deadline = time.monotonic() + PATIENCE
    taken: list[Delivery] = []
    while len(taken) < count and time.monotonic() < deadline:
        taken += subscription.take_deliveries(limit=count - len(taken), timeout=deadline - time.monotonic())
    return taken


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        os.sched_yield()


def publish(broker: Broker, queue: str, *messages: Message) -> Sequence[Outgoing]:
    confirmations = Confirmations()
    broker.publish([Outgoing(queue, message) for message in messages], confirmed=confirmations)
    assert confirmations.heard.wait(PATIENCE)
    assert len(confirmations.told) == 1
    return confirmations.told[0].all_messages


def publish_when_made(broker: Broker, queue: str, *messages: Message) -> None:
    """Publish what an adapter, that makes its queues in the background, may not take at once."""
    deadline = time.monotonic() + PATIENCE
    left: Sequence[Message] = messages
    while left:
        left = [outgoing.message for outgoing in publish(broker, queue, *left)]
        assert time.monotonic() < deadline, f"{queue} was never made"


def reports(count: int) -> list[Message]:
    return [Report(worker=WorkerId("w"), number=number) for number in range(1, count + 1)]


def messages(deliveries: Sequence[Delivery]) -> list[Message]:
    return [delivery.message for delivery in deliveries]


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.server)])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    made: Broker
    if request.param == "memory":
        made = MemoryBroker()
    else:
        made = RabbitBroker(request.getfixturevalue("rabbitmq_server"), SIGNER)
        until(lambda: made.connected)
    yield made
    made.close(timeout=2.0)


@pytest.fixture
def queue() -> str:
    return f"echelon.test.reports.{uuid.uuid4()}"


@pytest.fixture
def subscribe(broker: Broker) -> Iterator[Callable[..., Subscription]]:
    made: list[Subscription] = []

    def make(*queues: str, prefetch: int = 100, notify: Callable[[], None] | None = None) -> Subscription:
        made.append(broker.subscribe(queues, prefetch=prefetch, notify=notify))
        return made[-1]

    yield make
    for subscription in made:
        subscription.close()


def test_messages_arrive_in_the_order_they_were_published(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    subscription = subscribe(queue)
    publish_when_made(broker, queue, SMALL)
    subscription.ack(take_all(subscription, 1))

    publish(broker, queue, *reports(50))

    taken = take_all(subscription, 50)
    assert messages(taken) == reports(50)
    assert {delivery.queue for delivery in taken} == {queue}


def test_messages_published_before_anybody_listens_again_are_kept(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    first = subscribe(queue)
    publish_when_made(broker, queue, SMALL)
    first.ack(take_all(first, 1))
    first.close()

    assert publish(broker, queue, *reports(3)) == []

    assert messages(take_all(subscribe(queue), 3)) == reports(3)


def test_a_message_for_a_queue_that_nobody_made_comes_back(broker: Broker, queue: str) -> None:
    refused = publish(broker, queue, *reports(2))

    assert refused == [Outgoing(queue, message) for message in reports(2)]


def test_only_what_could_not_be_handed_over_comes_back(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    subscription = subscribe(queue)
    publish_when_made(broker, queue, SMALL)
    stray = Outgoing(f"{queue}.nobody", SMALL)
    confirmations = Confirmations()

    broker.publish([Outgoing(queue, SMALL), stray, Outgoing(queue, SMALL)], confirmed=confirmations)

    assert confirmations.heard.wait(PATIENCE)
    (told,) = confirmations.told
    assert (list(told.refused), list(told.unknown)) == ([stray], [])
    assert len(take_all(subscription, 3)) == 3


def test_an_empty_batch_is_confirmed(broker: Broker, queue: str) -> None:
    assert publish(broker, queue) == []


def test_one_subscription_hears_several_queues(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    subscription = subscribe(queue, f"{queue}.other")
    publish_when_made(broker, queue, SMALL)
    publish_when_made(broker, f"{queue}.other", SMALL)

    taken = take_all(subscription, 2)

    assert {delivery.queue for delivery in taken} == {queue, f"{queue}.other"}


def test_two_subscriptions_share_a_queue_without_doubles(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    first, second = subscribe(queue, prefetch=5), subscribe(queue, prefetch=5)
    publish_when_made(broker, queue, *reports(10))

    taken = take_all(first, 5) + take_all(second, 5)

    assert sorted(report.number for report in messages(taken) if isinstance(report, Report)) == list(range(1, 11))


def test_no_more_than_prefetch_is_out_without_an_ack(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    subscription = subscribe(queue, prefetch=3)
    publish_when_made(broker, queue, *reports(5))

    held = take_all(subscription, 3)

    assert subscription.take_deliveries(limit=10, timeout=0.0) == []
    subscription.ack(held)
    assert messages(held + take_all(subscription, 2)) == reports(5)


def test_a_limit_is_a_limit(broker: Broker, queue: str, subscribe: Callable[..., Subscription]) -> None:
    subscription = subscribe(queue)
    publish_when_made(broker, queue, *reports(5))

    assert len(subscription.take_deliveries(limit=2, timeout=PATIENCE)) <= 2


def test_a_message_as_long_as_the_broker_says_arrives_and_a_longer_one_comes_back(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    subscription = subscribe(queue)
    longest = broker.longest or MAX_BYTES
    frame = len(encode_message(sized(0)))
    fitting, longer = sized(longest - frame), sized(longest - frame + 1)
    publish_when_made(broker, queue, fitting)

    refused = publish(broker, queue, longer, SMALL)

    assert [outgoing.message for outgoing in refused] == ([longer] if broker.longest else [])
    arrived = [fitting, SMALL] if broker.longest else [fitting, longer, SMALL]
    assert messages(take_all(subscription, len(arrived))) == arrived


def sized(filling: int) -> Report:
    error = "x" * filling
    finished = Finished(JobId("j"), TaskId("t"), 1, Outcome.FAILED, error=error)
    return Report(worker=WorkerId("w"), number=1, finished=(finished,))


def test_a_requeued_message_comes_again(broker: Broker, queue: str, subscribe: Callable[..., Subscription]) -> None:
    subscription = subscribe(queue)
    publish_when_made(broker, queue, *reports(2))
    taken = take_all(subscription, 2)

    subscription.requeue(taken)

    assert messages(take_all(subscription, 2)) == reports(2)


def test_closing_gives_back_what_is_not_acked(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    first = subscribe(queue)
    publish_when_made(broker, queue, *reports(3))
    taken = take_all(first, 3)
    first.ack(taken[:1])

    first.close()

    assert messages(take_all(subscribe(queue), 2)) == reports(3)[1:]


def test_an_acked_message_never_comes_again(broker: Broker, queue: str, subscribe: Callable[..., Subscription]) -> None:
    first = subscribe(queue)
    publish_when_made(broker, queue, *reports(3))
    first.ack(take_all(first, 3))
    first.close()
    publish(broker, queue, SMALL)

    assert messages(take_all(subscribe(queue), 1)) == [SMALL]


def test_a_rejected_message_never_comes_again(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    first = subscribe(queue, prefetch=1)
    publish_when_made(broker, queue, *reports(2))
    first.reject(take_all(first, 1)[0], "a test says so")
    assert messages(take_all(first, 1)) == reports(2)[1:]
    first.close()

    assert messages(take_all(subscribe(queue), 1)) == reports(2)[1:]


def test_wake_ends_a_waiting_take(broker: Broker, queue: str, subscribe: Callable[..., Subscription]) -> None:
    subscription = subscribe(queue)
    taken: list[list[Delivery]] = []
    waiting = threading.Thread(
        target=lambda: taken.append(subscription.take_deliveries(limit=1, timeout=PATIENCE * 10))
    )
    waiting.start()

    subscription.wake()

    waiting.join(PATIENCE)
    assert taken == [[]]


def test_a_wake_before_the_take_is_not_lost(broker: Broker, queue: str, subscribe: Callable[..., Subscription]) -> None:
    subscription = subscribe(queue)
    subscription.wake()
    began = time.monotonic()

    assert subscription.take_deliveries(limit=1, timeout=PATIENCE) == []

    assert time.monotonic() - began < PATIENCE / 2


def test_a_waiting_take_returns_when_something_arrives(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    subscription = subscribe(queue)
    taken: list[Message] = []
    waiting = threading.Thread(target=lambda: taken.extend(messages(take_all(subscription, 1))))
    waiting.start()

    publish_when_made(broker, queue, SMALL)

    waiting.join(PATIENCE)
    assert taken == [SMALL]


def test_notify_rings_when_something_arrives(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    rung = threading.Event()
    subscription = subscribe(queue, notify=rung.set)

    publish_when_made(broker, queue, SMALL)

    assert rung.wait(PATIENCE)
    assert messages(take_all(subscription, 1)) == [SMALL]


def test_notify_rings_for_what_was_there_before(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    first = subscribe(queue)
    publish_when_made(broker, queue, SMALL)
    first.close()
    rung = threading.Event()

    subscribe(queue, notify=rung.set)

    assert rung.wait(PATIENCE)


def test_many_threads_publish_at_once_and_nothing_is_lost(
    broker: Broker, queue: str, subscribe: Callable[..., Subscription]
) -> None:
    subscription = subscribe(queue, prefetch=1000)
    publish_when_made(broker, queue, SMALL)
    subscription.ack(take_all(subscription, 1))
    threads = [threading.Thread(target=publish, args=(broker, queue, *reports(50))) for _ in range(8)]

    for thread in threads:
        thread.start()

    taken = take_all(subscription, 400)
    for thread in threads:
        thread.join(PATIENCE)
    assert len(taken) == 400


def test_after_close_everything_comes_back(broker: Broker, queue: str, subscribe: Callable[..., Subscription]) -> None:
    subscription = subscribe(queue)
    publish_when_made(broker, queue, SMALL)

    broker.close(timeout=2.0)

    assert not broker.connected
    assert publish(broker, queue, SMALL) == [Outgoing(queue, SMALL)]
    assert subscription.take_deliveries(limit=1, timeout=0.0) == []
