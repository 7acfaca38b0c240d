"""The broker's port on RabbitMQ: one connection to publish, another to listen, each with a thread of its own.

An alarm of the broker blocks connections that publish, so deliveries are acknowledged on another one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pika

from echelon.shared.broker.port import Confirmed, Outgoing, Unconfirmed
from echelon.shared.broker.rabbitmq.causes import Trouble
from echelon.shared.broker.rabbitmq.consumer import Consumer, Listening, RabbitSubscription
from echelon.shared.broker.rabbitmq.link import Link
from echelon.shared.broker.rabbitmq.publisher import RabbitPublisher
from echelon.shared.broker.topology import QueueType, Topology
from echelon.shared.codec import MAX_BYTES
from echelon.shared.errors import InvalidInput
from echelon.shared.messages import DEAD
from echelon.shared.signing import Signer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RabbitOptions:
    """How to talk to RabbitMQ. Lengths of time are seconds."""

    queue_type: QueueType = "classic"
    #: A peer that is silent for twice as long is taken for gone.
    heartbeat: int = 10
    #: Longest wait for the socket and for the AMQP handshake.
    connect_timeout: float = 10.0
    #: A server that does not answer for a part of this lease counts as away; None: it is not asked.
    lease: float | None = None


class RabbitBroker:
    """Queues of a RabbitMQ server. It connects in the background, for ever."""

    volatile = False
    longest: int | None = MAX_BYTES

    def __init__(self, url: str, signer: Signer, options: RabbitOptions | None = None) -> None:
        options = options or RabbitOptions()
        parameters = _make_parameters(url, options)
        self._topology = Topology(options.queue_type)
        self._signer = signer
        self._closed = False
        self._trouble = Trouble(parameters)
        self._publisher = RabbitPublisher(self._topology, signer, self._trouble)
        self._consumer = Consumer()
        self._publishing = Link(parameters, self._publisher, "publishing", self._trouble, lease=options.lease)
        self._publisher.use_link(self._publishing)
        self._consuming = Link(parameters, self._consumer, "consuming", self._trouble, lease=options.lease)

    def publish(self, messages: Sequence[Outgoing], *, confirmed: Confirmed | None = None) -> None:
        """Hand messages over, in order, without waiting; `confirmed` gets the unconfirmed ones."""
        if self._consumer.is_ready:
            self._publisher.publish(messages, confirmed)
        elif confirmed is not None:
            # A sender expects an answer: its own queues are declared first, or the answer has no queue.
            confirmed(Unconfirmed(list(messages)))

    def subscribe(
        self, queues: Sequence[str], *, prefetch: int, notify: Callable[[], None] | None = None
    ) -> RabbitSubscription:
        """Listen to queues, making those that do not exist; `notify` is called (any thread) when something arrives."""
        listening = Listening(
            tuple(queues),
            prefetch,
            notify,
            self._topology,
            self._signer,
            self._publish_dead,
            self._consuming.call_soon,
            self._trouble,
        )
        subscription = RabbitSubscription(listening)
        self._consumer.register_subscription(subscription)
        self._consuming.call_soon(lambda: self._consumer.add_subscription(subscription))
        return subscription

    @property
    def connected(self) -> bool:
        """Tell whether messages flow at the moment."""
        flows = self._publisher.takes_messages and self._consuming.is_open and self._consumer.is_ready
        return flows and not self._closed and not self._hangs

    @property
    def condition(self) -> str:
        """Tell how the connection is, for people."""
        if self.connected:
            return "connected"
        hangs = "RabbitMQ does not answer, although its connections are open" if self._hangs else None
        return self._publisher.blocked_words or self._trouble.words or hangs or "away: it is connected to just now"

    @property
    def _hangs(self) -> bool:
        return self._publishing.hangs or self._consuming.hangs

    def close(self, *, timeout: float) -> None:
        """Flush what can be flushed within `timeout` seconds and let go."""
        deadline = time.monotonic() + timeout
        self._closed = True
        self._publisher.await_confirms(timeout=timeout / 2)
        self._consumer.close()
        for link in (self._consuming, self._publishing):
            link.close(timeout=max(0.5, (deadline - time.monotonic()) / 2))

    def _publish_dead(self, queue: str, body: bytes, reason: str, taken: Callable[[bool], None]) -> None:
        self._publisher.publish_raw(DEAD, body, {"reason": reason[:500], "queue": queue}, taken)


def _make_parameters(url: str, options: RabbitOptions) -> pika.connection.Parameters:
    # Neither the URL nor an error about it may be shown: they may hold the password.
    unusable = InvalidInput("the broker's URL cannot be used; it has to look like amqp://user:password@host:5672/")
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise unusable
        parameters = pika.URLParameters(url)
    except OSError as error:
        raise InvalidInput(
            "the broker's URL cannot be used: cafile, certfile or keyfile in its ssl_options is missing, cannot be read"
            f" or holds something else ({error.strerror or type(error).__name__})"
        ) from None
    except (ValueError, TypeError, KeyError, SyntaxError):
        raise unusable from None
    parameters.heartbeat = options.heartbeat
    parameters.socket_timeout = options.connect_timeout
    parameters.stack_timeout = options.connect_timeout
    parameters.blocked_connection_timeout = None
    parameters.connection_attempts = 1
    return parameters
