"""Listens to queues: one channel per subscription on the consuming link, made again whenever it breaks.

Deliveries are numbered within one life of a channel, so an ack that comes after that life is dropped: the broker has
put the message back already.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pika import BasicProperties
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.exceptions import ChannelClosedByClient
from pika.spec import Basic

from echelon.shared.broker.port import Delivery
from echelon.shared.broker.rabbitmq.causes import Trouble
from echelon.shared.broker.rabbitmq.refusals import RefusalLog
from echelon.shared.broker.topology import SIGNATURE, Topology
from echelon.shared.codec import decode_message, encode_message
from echelon.shared.errors import InvalidMessage
from echelon.shared.signing import Signer

log = logging.getLogger(__name__)

#: Pause before a channel that the broker closed is opened again, in seconds.
REOPEN_AFTER = 0.5
#: A subscription with room, that has heard nothing for so many seconds, looks whether its queues hold messages.
SILENCE = 30.0
#: A message that could be neither read nor moved to the dead queue comes again after this many seconds.
REJECT_AGAIN = 5.0

#: Takes a message that cannot be decoded: queue, body, reason; and a callback that hears whether it was stored.
PublishDead = Callable[[str, bytes, str, Callable[[bool], None]], None]


@dataclass(frozen=True, slots=True)
class _Tag:
    #: Which life of the channel.
    life: int
    number: int


@dataclass(frozen=True, slots=True)
class Listening:
    """The queues of a subscription, and its options."""

    queues: tuple[str, ...]
    prefetch: int
    notify: Callable[[], None] | None
    topology: Topology
    signer: Signer
    publish_dead: PublishDead
    #: Runs a callback on the link's thread.
    call: Callable[[Callable[[], None]], None]
    trouble: Trouble


class RabbitSubscription:
    """A stream of deliveries from queues of RabbitMQ."""

    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self._arrived = threading.Condition()
        self._buffer: deque[Delivery] = deque()
        self._woken = False
        self._closed = False
        #: The rest belongs to the link's thread.
        self._connection: SelectConnection | None = None
        self._channel: Channel | None = None
        self._life = 0
        self._not_yet = len(listening.queues)
        self._unacked: set[int] = set()
        self._heard_at = time.monotonic()
        self._refusals = RefusalLog()

    def take_deliveries(self, *, limit: int, timeout: float) -> list[Delivery]:
        """Return up to `limit` deliveries, oldest first; wait up to `timeout` seconds for the first one."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not (self._buffer or self._woken or self._closed):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._arrived.wait(remaining)
            self._woken = False
            return [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are done with for good."""
        self._send_answers(deliveries, _ack_delivery)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Give these back; they come again, to this subscription or another."""
        self._send_answers(deliveries, _requeue_delivery)

    def reject(self, delivery: Delivery, reason: str) -> None:
        """Send this to the dead queue; it comes again when that cannot be done."""
        tag = delivery.tag
        assert isinstance(tag, _Tag), "a delivery of this subscription"
        self._listening.publish_dead(
            delivery.queue, encode_message(delivery.message), reason, lambda taken: self._on_rejected(tag, taken)
        )

    def wake(self) -> None:
        """Make a waiting `take_deliveries` return at once."""
        with self._arrived:
            self._woken = True
            self._arrived.notify()

    def close(self) -> None:
        """Stop listening; what is not acked goes back to its queue."""
        with self._arrived:
            self._closed = True
            self._buffer.clear()
            self._arrived.notify()
        self._listening.trouble.clear(self)
        self._listening.call(self._close_channel)

    @property
    def is_closed(self) -> bool:
        """Tell whether the subscription was closed."""
        return self._closed

    @property
    def is_ready(self) -> bool:
        """Tell whether the broker has made all queues and sends what is in them."""
        return self._not_yet == 0

    def use_connection(self, connection: SelectConnection) -> None:
        """Begin on a fresh connection. On the link's thread, as are the following."""
        if connection is not self._connection:
            self._connection = connection
            self._open_channel()

    def forget_connection(self) -> None:
        """Forget a connection that is gone."""
        self._connection = None
        self._forget_channel()

    def check_queues(self) -> None:
        """Look at the queues when nothing has come for long: a consumer may have died without a word."""
        silent = time.monotonic() - self._heard_at > SILENCE
        channel = self._channel
        if not silent or self._unacked or channel is None or not channel.is_open:
            return
        self._heard_at = time.monotonic()
        for queue in self._listening.queues:
            channel.queue_declare(
                self._listening.topology.physical_name(queue), passive=True, callback=self._note_queue
            )

    def _note_queue(self, frame: object) -> None:
        method = getattr(frame, "method", None)
        if getattr(method, "message_count", 0) and time.monotonic() - self._heard_at > 1.0:
            log.warning("messages wait in %s and do not come; listening anew", getattr(method, "queue", "?"))
            self._close_channel()

    def _open_channel(self) -> None:
        if self._connection is not None and self._connection.is_open and not self._closed:
            self._connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        if self._closed:
            channel.close()
            return
        self._channel = channel
        self._life += 1
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(self._on_cancel)
        channel.basic_qos(prefetch_count=self._listening.prefetch)
        for queue in self._listening.queues:
            self._consume_queue(channel, queue)

    def _consume_queue(self, channel: Channel, queue: str) -> None:
        topology, life = self._listening.topology, self._life

        def on_message(channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            signature = (properties.headers or {}).get(SIGNATURE)
            self._on_message(_Tag(life, method.delivery_tag), queue, body, signature)

        channel.queue_declare(topology.physical_name(queue), durable=True, arguments=topology.queue_arguments(queue))
        channel.basic_consume(topology.physical_name(queue), on_message, callback=lambda _: self._on_consuming(life))

    def _on_consuming(self, life: int) -> None:
        if life == self._life:
            self._not_yet -= 1
            if self._not_yet == 0:
                self._listening.trouble.clear(self)

    def _on_message(self, tag: _Tag, queue: str, body: bytes, signature: object) -> None:
        self._heard_at = time.monotonic()
        self._unacked.add(tag.number)
        try:
            self._listening.signer.check_signature(queue, body, signature)
            message = decode_message(body)
        except InvalidMessage as error:
            self._refusals.log_refusal(queue, body, error)
            self._listening.publish_dead(queue, body, str(error), lambda taken: self._on_rejected(tag, taken))
            return
        with self._arrived:
            if self._closed:
                return
            self._buffer.append(Delivery(tag, queue, message))
            self._arrived.notify()
        if self._listening.notify is not None:
            self._listening.notify()

    def _on_rejected(self, tag: _Tag, taken: bool) -> None:
        """Ack what the dead queue has; the rest comes again, in a while."""

        def put_back_later() -> None:
            if self._connection is not None:
                self._connection.ioloop.call_later(REJECT_AGAIN, lambda: self._answer_now([tag], _requeue_delivery))

        self._listening.call((lambda: self._answer_now([tag], _ack_delivery)) if taken else put_back_later)

    def _send_answers(self, deliveries: Sequence[Delivery], answer: Callable[[Channel, int], None]) -> None:
        tags = [delivery.tag for delivery in deliveries if isinstance(delivery.tag, _Tag)]
        if tags:
            self._listening.call(lambda: self._answer_now(tags, answer))

    def _answer_now(self, tags: Sequence[_Tag], answer: Callable[[Channel, int], None]) -> None:
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        for tag in tags:
            if tag.life == self._life and tag.number in self._unacked:
                self._unacked.discard(tag.number)
                answer(channel, tag.number)

    def _on_cancel(self, frame: object) -> None:
        log.warning("the broker ended the listening to %s; listening anew", ", ".join(self._listening.queues))
        self._close_channel()

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._channel:
            return
        self._forget_channel()
        if self._closed or self._connection is None or not self._connection.is_open:
            return
        if not isinstance(reason, ChannelClosedByClient):
            self._listening.trouble.note_failure(self, reason)
        self._connection.ioloop.call_later(REOPEN_AFTER, self._open_channel)

    def _forget_channel(self) -> None:
        self._channel = None
        self._not_yet = len(self._listening.queues)
        self._unacked.clear()
        with self._arrived:
            self._buffer.clear()

    def _close_channel(self) -> None:
        channel = self._channel
        if channel is not None and channel.is_open:
            channel.close()


def _ack_delivery(channel: Channel, number: int) -> None:
    channel.basic_ack(number)


def _requeue_delivery(channel: Channel, number: int) -> None:
    channel.basic_nack(number, requeue=True)


class Consumer:
    """The consuming half of the broker; a tenant of its own link."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: list[RabbitSubscription] = []
        self._connection: SelectConnection | None = None

    def add_subscription(self, subscription: RabbitSubscription) -> None:
        """Serve a subscription from now on. On the link's thread, as is everything here but `register_subscription`."""
        if self._connection is not None:
            subscription.use_connection(self._connection)

    def register_subscription(self, subscription: RabbitSubscription) -> None:
        """Serve a subscription with every further connection. Any thread may call it."""
        with self._lock:
            self._subscriptions = [known for known in self._subscriptions if not known.is_closed]
            self._subscriptions.append(subscription)

    @property
    def is_ready(self) -> bool:
        """Tell whether every subscription hears what is sent to it."""
        return all(subscription.is_ready for subscription in self._open_subscriptions())

    def close(self) -> None:
        """End all subscriptions. Any thread may call it."""
        for subscription in self._open_subscriptions():
            subscription.close()

    def on_opened(self, connection: SelectConnection) -> None:
        self._connection = connection
        for subscription in self._open_subscriptions():
            subscription.use_connection(connection)
        self._look_later(connection)

    def on_lost(self) -> None:
        self._connection = None
        for subscription in self._open_subscriptions():
            subscription.forget_connection()

    def on_blocked(self, blocked: bool) -> None:
        """Nothing changes: this connection publishes nothing, so the broker never blocks it."""

    def _open_subscriptions(self) -> list[RabbitSubscription]:
        with self._lock:
            return [subscription for subscription in self._subscriptions if not subscription.is_closed]

    def _look_later(self, connection: SelectConnection) -> None:
        def look() -> None:
            if self._connection is not connection:
                return
            for subscription in self._open_subscriptions():
                subscription.check_queues()
            self._look_later(connection)

        connection.ioloop.call_later(SILENCE / 3, look)
