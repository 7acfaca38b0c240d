"""Why RabbitMQ cannot be used: the cause decides the words, and a dead queue of another form stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from echelon.shared.broker.rabbitmq import RabbitBroker
from echelon.shared.broker.rabbitmq.causes import Trouble
from echelon.shared.ids import WorkerId, new_worker_id
from echelon.shared.messages import DEAD, Report, orders_queue
from tests.contract.rabbit import SIGNER, PrivateRabbitmq, signed
from tests.contract.test_broker import publish_when_made, take_all, until
from tests.contract.test_rabbitmq import node

__all__ = ["node"]

pytestmark = pytest.mark.server


@pytest.fixture
def refused(node: PrivateRabbitmq) -> Iterator[Callable[[str], str]]:
    """Give a function that connects to a URL in vain and returns the reason."""
    made: list[RabbitBroker] = []

    def connect(url: str) -> str:
        made.append(RabbitBroker(url, SIGNER))
        until(lambda: not made[-1].condition.startswith("away:"))
        assert not made[-1].connected
        return made[-1].condition

    yield connect
    for broker in made:
        broker.close(timeout=2.0)


def test_the_cause_of_a_refusal_decides_its_words(node: PrivateRabbitmq, refused: Callable[[str], str]) -> None:
    place = f"127.0.0.1:{node.port}"
    password = refused(f"amqp://guest:S3CR3T@{place}/%2F")
    vhost = refused(f"amqp://guest:guest@{place}/nowhere")
    port = refused("amqp://guest:guest@127.0.0.1:1/%2F")
    host = refused("amqp://guest:guest@no-such-host.invalid:5672/%2F")
    tls = refused(f"amqps://guest:guest@{place}/%2F")

    assert place in password and "refuses user 'guest'" in password and "S3CR3T" not in password
    assert "has no virtual host 'nowhere'" in vhost and "add_vhost" in vhost
    assert "nothing listens at 127.0.0.1:1" in port
    assert "no host 'no-such-host.invalid'" in host
    assert "speaks no TLS" in tls


def test_a_queue_that_is_declared_otherwise_is_named_with_the_remedy(
    node: PrivateRabbitmq, caplog: pytest.LogCaptureFixture
) -> None:
    queue = orders_queue(new_worker_id())
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        connection.channel().queue_declare(queue, durable=True, arguments={"x-max-length": 1})
        broker = RabbitBroker(node.url, SIGNER)
        try:
            broker.subscribe([queue], prefetch=1)
            until(lambda: "declared otherwise" in broker.condition)

            assert f"rabbitmqctl delete_queue {queue}" in broker.condition
            warnings = [record.getMessage() for record in caplog.records if record.name.startswith("echelon")]
            assert sum(queue in words for words in warnings) == 1, "one cause is said once, however often it is tried"
            connection.channel().queue_delete(queue)
            until(lambda: broker.connected)
            assert broker.condition == "connected"
        finally:
            broker.close(timeout=2.0)


def test_a_part_that_works_does_not_hide_that_another_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(pika.ConnectionParameters("here", 1234))
    refusal = ChannelClosedByBroker(406, "PRECONDITION_FAILED for queue 'orders' in vhost '/'")
    trouble.note_failure("listening", refusal)
    trouble.clear("publishing")
    trouble.note_failure("listening", refusal)
    trouble.note_failure("another listener", refusal)
    trouble.clear("listening")

    assert "'orders'" in (trouble.words or "")
    assert len(caplog.records) == 1, "one cause is said once, however often it is tried and by however many"
    trouble.clear("another listener")
    assert trouble.words is None


def test_a_dead_queue_that_is_declared_otherwise_stops_nothing(
    node: PrivateRabbitmq, caplog: pytest.LogCaptureFixture
) -> None:
    queue = orders_queue(new_worker_id())
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        channel = connection.channel()
        channel.queue_delete(DEAD)
        channel.queue_declare(DEAD, durable=False, arguments={"x-max-length": 5})
        broker = RabbitBroker(node.url, SIGNER)
        try:
            subscription = broker.subscribe([queue], prefetch=10)
            until(lambda: broker.connected)
            until(lambda: any(DEAD in record.getMessage() for record in caplog.records))
            channel.basic_publish("", queue, b"not a message", signed(queue, b"not a message"))
            until(lambda: bool(channel.basic_get(DEAD, auto_ack=True)[0]))
            publish_when_made(broker, queue, Report(WorkerId("w"), 1))
            assert len(take_all(subscription, 1)) == 1
            assert broker.connected
        finally:
            broker.close(timeout=2.0)
            channel.queue_delete(DEAD)
