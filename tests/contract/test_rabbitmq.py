"""Faults that only a broker in its own process has: crashes, deleted queues, unreadable messages, alarms."""

from __future__ import annotations

import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pika
import pytest

from echelon.shared.broker.port import Outgoing, Unconfirmed
from echelon.shared.broker.rabbitmq import RabbitBroker, RabbitOptions
from echelon.shared.broker.topology import DELIVERIES, Topology
from echelon.shared.codec import decode_message
from echelon.shared.errors import InvalidInput
from echelon.shared.ids import WorkerId, new_worker_id
from echelon.shared.lease import SHORTEST_LEASE
from echelon.shared.messages import DEAD, Report, orders_queue
from tests.contract.rabbit import SIGNER, PrivateRabbitmq, rabbitmq_binaries, signed
from tests.contract.servers import unavailable
from tests.contract.test_broker import (
    PATIENCE,
    SMALL,
    Confirmations,
    messages,
    publish,
    publish_when_made,
    take_all,
    until,
)
from tests.system.proxy import Link, Proxies

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateRabbitmq]:
    """Give a RabbitMQ that may be hurt."""
    binaries = rabbitmq_binaries()
    if binaries is None:
        unavailable("no RabbitMQ of our own: install the package rabbitmq-server")
        return
    with PrivateRabbitmq(binaries) as server:
        yield server


@pytest.fixture
def connect(node: PrivateRabbitmq) -> Iterator[Callable[..., RabbitBroker]]:
    made: list[RabbitBroker] = []

    def build(options: RabbitOptions | None = None) -> RabbitBroker:
        made.append(RabbitBroker(node.url, SIGNER, options))
        until(lambda: made[-1].connected)
        return made[-1]

    yield build
    for broker in made:
        broker.close(timeout=3.0)


@pytest.fixture
def queue() -> str:
    return f"echelon.test.{uuid.uuid4()}"


def raw(node: PrivateRabbitmq, act: Callable[[pika.adapters.blocking_connection.BlockingChannel], object]) -> object:
    connection = pika.BlockingConnection(pika.URLParameters(node.url))
    try:
        return act(connection.channel())
    finally:
        connection.close()


def ready(node: PrivateRabbitmq, queue: str) -> int:
    found = raw(node, lambda channel: channel.queue_declare(queue, passive=True).method.message_count)
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["crash", "shutdown"])
def test_after_a_restart_everybody_hears_again_and_nothing_confirmed_is_lost(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str, how: signal.Signals
) -> None:
    broker = connect()
    subscription = broker.subscribe([queue], prefetch=10)
    publish_when_made(broker, queue, SMALL)
    held = take_all(subscription, 1)

    # RabbitMQ confirms a queue before its own log of queues is on disk: one made just before a crash can be gone.
    node.control("eval", "mnesia:sync_log().")
    node.stop(how)
    until(lambda: not broker.connected)
    assert publish(broker, queue, SMALL) == [Outgoing(queue, SMALL)]
    node.start()
    began = time.monotonic()

    until(lambda: broker.connected)
    publish_when_made(broker, queue, SMALL)
    assert len(take_all(subscription, 2)) == 2
    assert time.monotonic() - began < 5.0
    subscription.ack(held)


def test_a_subscription_survives_the_deletion_of_its_queue(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    broker = connect()
    subscription = broker.subscribe([queue], prefetch=10)
    publish_when_made(broker, queue, SMALL)
    subscription.ack(take_all(subscription, 1))

    raw(node, lambda channel: channel.queue_delete(queue))
    publish_when_made(broker, queue, SMALL)

    assert messages(take_all(subscription, 1)) == [SMALL]


def test_what_the_broker_cuts_comes_back(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    broker = connect()
    subscription = broker.subscribe([queue], prefetch=10)
    publish_when_made(broker, queue, SMALL)
    subscription.ack(take_all(subscription, 1))

    for _ in range(3):
        node.control("close_all_connections", "tried by a test")
        publish_when_made(broker, queue, SMALL)
        taken = take_all(subscription, 1)
        subscription.ack(taken)

        assert messages(taken) == [SMALL]


@pytest.mark.parametrize(
    "body",
    [b"not json", b'{"kind":"report","v":99}', b"\xff\xfe", b"[" * 100_000, b"x" * (5 * 1024 * 1024), b""],
    ids=["text", "version", "binary", "deep", "long", "empty"],
)
def test_what_nobody_can_read_goes_to_the_dead_queue_with_a_reason(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str, body: bytes
) -> None:
    broker = connect()
    raw(node, lambda channel: channel.queue_purge(DEAD))
    subscription = broker.subscribe([queue], prefetch=2)
    publish_when_made(broker, queue, SMALL)
    subscription.ack(take_all(subscription, 1))

    for _ in range(3):
        raw(node, lambda channel: channel.basic_publish("", queue, body, signed(queue, body)))
    publish_when_made(broker, queue, SMALL)

    assert messages(take_all(subscription, 1)) == [SMALL]
    until(lambda: ready(node, DEAD) == 3)
    _method, properties, kept = raw(node, lambda channel: channel.basic_get(DEAD, auto_ack=True))  # type: ignore[misc]
    assert kept == body
    assert properties.headers["queue"] == queue
    assert properties.headers["reason"]


@pytest.fixture
def far(node: PrivateRabbitmq) -> Iterator[tuple[Link, RabbitBroker]]:
    """Give a broker behind a link that can be cut."""
    with Proxies() as proxies:
        link = proxies.link(node.port)
        broker = RabbitBroker(node.url.replace(f":{node.port}/", f":{link.port}/"), SIGNER)
        until(lambda: broker.connected)
        yield link, broker
        broker.close(timeout=3.0)


def test_of_what_was_delivered_and_not_confirmed_when_the_connection_went_nobody_says_that_it_was_refused(
    node: PrivateRabbitmq, far: tuple[Link, RabbitBroker], queue: str
) -> None:
    link, broker = far
    raw(node, lambda channel: channel.queue_declare(queue, durable=True, arguments=Topology().queue_arguments(queue)))
    sent, told = Outgoing(queue, SMALL), Confirmations()

    link.swallow(up=False, down=True)
    broker.publish([sent], confirmed=told)
    until(lambda: ready(node, queue) == 1)
    link.cut()
    link.heal()

    assert told.heard.wait(PATIENCE)
    assert told.told == [Unconfirmed(refused=[], unknown=[sent])]


def test_what_was_lost_with_the_connection_is_unknown_too_and_what_was_never_sent_is_refused(
    node: PrivateRabbitmq, far: tuple[Link, RabbitBroker], queue: str
) -> None:
    link, broker = far
    raw(node, lambda channel: channel.queue_declare(queue, durable=True, arguments=Topology().queue_arguments(queue)))
    sent, late = Outgoing(queue, SMALL), Outgoing(queue, Report(worker=WorkerId("w"), number=1))
    first, second = Confirmations(), Confirmations()

    link.swallow()
    broker.publish([sent], confirmed=first)
    link.cut()
    assert first.heard.wait(PATIENCE)
    broker.publish([late], confirmed=second)
    link.heal()

    assert second.heard.wait(PATIENCE)
    assert first.told == [Unconfirmed(refused=[], unknown=[sent])]
    assert second.told == [Unconfirmed(refused=[late], unknown=[])]
    until(lambda: broker.connected)
    assert publish(broker, queue, SMALL) == []


def test_an_alarm_refuses_messages_and_loses_none(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    broker = connect()
    subscription = broker.subscribe([queue], prefetch=10)
    publish_when_made(broker, queue, SMALL)
    subscription.ack(take_all(subscription, 1))
    node.control("set_vm_memory_high_watermark", "0")
    try:
        caught = Confirmations()
        broker.publish([Outgoing(queue, SMALL)], confirmed=caught)
        until(lambda: not broker.connected)
        assert publish(broker, queue, SMALL) == [Outgoing(queue, SMALL)]
    finally:
        node.control("set_vm_memory_high_watermark", "0.4")

    until(lambda: broker.connected)
    assert caught.heard.wait(PATIENCE)
    assert messages(take_all(subscription, 1)) == [SMALL]


def test_closing_during_an_alarm_takes_no_longer_than_it_may(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    broker = connect()
    broker.subscribe([queue], prefetch=10)
    publish_when_made(broker, queue, SMALL)
    node.control("set_vm_memory_high_watermark", "0")
    try:
        broker.publish([Outgoing(queue, SMALL)])
        until(lambda: not broker.connected)
        began = time.monotonic()

        broker.close(timeout=3.0)

        assert time.monotonic() - began < 4.0
    finally:
        node.control("set_vm_memory_high_watermark", "0.4")


def test_a_broker_that_hangs_with_its_connections_open_is_away_until_it_answers_for_those_who_ask(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker]
) -> None:
    asks, does_not = connect(RabbitOptions(lease=SHORTEST_LEASE)), connect()
    with node.hung():
        until(lambda: not asks.connected)
        assert asks.condition == "RabbitMQ does not answer, although its connections are open"
        assert does_not.connected
    until(lambda: asks.connected)


def test_a_workers_queue_goes_away_without_the_worker(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker]
) -> None:
    queue = orders_queue(new_worker_id())
    broker = connect()
    broker.subscribe([queue], prefetch=10)
    publish_when_made(broker, queue, SMALL)

    listed = node.control("-q", "list_queues", "name", "arguments")

    (line,) = [line for line in listed.splitlines() if line.startswith(queue)]
    assert "x-expires" in line


def test_quorum_queues_stand_beside_classic_ones(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    classic, quorum = connect(), connect(RabbitOptions(queue_type="quorum"))
    for broker in (classic, quorum):
        subscription = broker.subscribe([queue], prefetch=10)
        publish_when_made(broker, queue, SMALL)

        taken = take_all(subscription, 1)

        assert [delivery.queue for delivery in taken] == [queue]
        subscription.ack(taken)


def test_a_broker_that_is_not_there_is_waited_for(node: PrivateRabbitmq, queue: str) -> None:
    node.stop()
    broker = RabbitBroker(node.url, SIGNER)
    try:
        subscription = broker.subscribe([queue], prefetch=10)
        assert publish(broker, queue, SMALL) == [Outgoing(queue, SMALL)]
        node.start()

        publish_when_made(broker, queue, SMALL)

        assert messages(take_all(subscription, 1)) == [SMALL]
    finally:
        broker.close(timeout=3.0)


def test_a_peer_that_says_nothing_does_not_hold_up_the_end() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        broker = RabbitBroker(f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/", SIGNER)
        connection, _ = listener.accept()
        began = time.monotonic()

        broker.close(timeout=2.0)

        connection.close()
    assert time.monotonic() - began < 3.0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("amqp-") and thread.is_alive()]


@pytest.mark.parametrize("url", ["http://host/", "amqp://user:hush@host:port/", "amqp://host/?heartbeat=x", "", "x"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        RabbitBroker(url, SIGNER)

    assert "hush" not in str(refused.value)


def test_a_quorum_queue_never_drops_what_is_given_back_again_and_again(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    broker = connect(RabbitOptions(queue_type="quorum"))
    subscription = broker.subscribe([queue], prefetch=1)
    publish_when_made(broker, queue, SMALL)
    for _ in range(30):
        subscription.requeue(take_all(subscription, 1))

    listed = node.control("-q", "list_queues", "name", "arguments")

    assert messages(take_all(subscription, 1)) == [SMALL]
    (line,) = [line for line in listed.splitlines() if line.startswith(queue)]
    # RabbitMQ 4 drops it after 20 times where nothing is said.
    assert '"x-delivery-limit"' in line and str(DELIVERIES) in line


def test_arguments_and_names_change_together() -> None:
    classic, quorum = Topology(), Topology("quorum")

    assert classic.queue_arguments(DEAD) != quorum.queue_arguments(DEAD)
    assert classic.physical_name(DEAD) != quorum.physical_name(DEAD)


def test_no_thread_is_left_behind(connect: Callable[..., RabbitBroker]) -> None:
    broker = connect()

    broker.close(timeout=3.0)

    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("amqp-")])


def test_what_nobody_wants_any_more_is_forgotten_while_nobody_listens_and_all_else_is_kept(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    broker = connect()
    raw(node, lambda channel: channel.queue_declare(queue, durable=True, arguments=Topology().queue_arguments(queue)))
    said = [Report(worker=WorkerId("w"), number=number) for number in range(4)]
    confirmations = Confirmations()

    broker.publish(
        [Outgoing(queue, one, 0.3) for one in said[:3]] + [Outgoing(queue, said[3])], confirmed=confirmations
    )
    assert confirmations.heard.wait(PATIENCE) and not confirmations.told[0]
    until(lambda: ready(node, queue) == 1)

    assert messages(take_all(broker.subscribe([queue], prefetch=9), 1)) == [said[3]]


def test_what_a_reader_rejects_goes_to_the_dead_queue_with_its_reason_and_does_not_come_again(
    node: PrivateRabbitmq, connect: Callable[..., RabbitBroker], queue: str
) -> None:
    broker = connect()
    raw(node, lambda channel: channel.queue_purge(DEAD))
    subscription = broker.subscribe([queue], prefetch=1)
    publish_when_made(broker, queue, Report(worker=WorkerId("w"), number=1))
    subscription.reject(take_all(subscription, 1)[0], "a test says so")
    publish(broker, queue, SMALL)

    assert messages(take_all(subscription, 1)) == [SMALL]
    until(lambda: ready(node, DEAD) == 1)
    _method, properties, kept = raw(node, lambda channel: channel.basic_get(DEAD, auto_ack=True))  # type: ignore[misc]
    assert decode_message(kept) == Report(worker=WorkerId("w"), number=1)
    assert properties.headers == {"reason": "a test says so", "queue": queue}
