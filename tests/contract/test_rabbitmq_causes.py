"""Why RabbitMQ cannot be used: the cause decides the words, and a dead queue of another form stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

from echelon.shared.broker.rabbitmq import RabbitBroker
from echelon.shared.ids import WorkerId, new_worker_id
from echelon.shared.messages import DEAD, Report, orders_queue
from tests.contract.certificates import Certificate, issue, make_authority
from tests.contract.rabbit import SIGNER, PrivateRabbitmq, rabbitmq_binaries, signed
from tests.contract.servers import unavailable
from tests.contract.test_broker import publish_when_made, take_all, until

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def node(authority: Certificate) -> Iterator[PrivateRabbitmq]:
    """Give a RabbitMQ that also speaks TLS, as localhost."""
    binaries = rabbitmq_binaries()
    if binaries is None:
        unavailable("no RabbitMQ of our own: install the package rabbitmq-server")
        return
    server = PrivateRabbitmq(binaries)
    server.speak_tls(issue(authority, authority.file.parent, "localhost"))
    with server:
        yield server


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


def test_with_tls_messages_pass_and_the_certificate_is_checked(
    node: PrivateRabbitmq, authority: Certificate, refused: Callable[[str], str], tmp_path: Path
) -> None:
    def over_tls(host: str, trusted: Path | None) -> str:
        options = f"?ssl_options={{'cafile':'{trusted}'}}" if trusted else ""
        return f"amqps://guest:guest@{host}:{node.tls_port}/%2F{options}"

    stranger = refused(over_tls("localhost", make_authority(tmp_path, "stranger").file))
    unnamed = refused(over_tls("localhost", None))
    elsewhere = refused(over_tls("127.0.0.1", authority.file))

    assert f"localhost:{node.tls_port} is not trusted" in stranger and "cafile" in stranger
    assert "is not trusted" in unnamed and "cafile" in unnamed
    assert f"127.0.0.1:{node.tls_port} is for another host" in elsewhere
    queue = orders_queue(new_worker_id())
    broker = RabbitBroker(over_tls("localhost", authority.file), SIGNER)
    try:
        subscription = broker.subscribe([queue], prefetch=1)
        publish_when_made(broker, queue, Report(WorkerId("w"), 1))
        assert len(take_all(subscription, 1)) == 1
    finally:
        broker.close(timeout=2.0)


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
