"""Publishes with confirms, many at a time, and never blocks its caller.

While there is no connection, or the broker blocks it (memory or disk alarm), messages are refused at once: keeping them
is the business of those who know what they are worth. The fate of a message is unknown if its channel closed before the
confirm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pika import BasicProperties
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Basic

from echelon.shared.broker.port import Confirmed, Outgoing, Unconfirmed
from echelon.shared.broker.rabbitmq.causes import Trouble
from echelon.shared.broker.rabbitmq.link import Link
from echelon.shared.broker.topology import SIGNATURE, Topology
from echelon.shared.codec import CONTENT_TYPE, encode_message
from echelon.shared.errors import InvalidMessage
from echelon.shared.messages import DEAD
from echelon.shared.signing import Signer

log = logging.getLogger(__name__)

PERSISTENT = 2
#: Seconds until a channel that the broker closed is opened again.
REOPEN_AFTER = 0.5


@dataclass(frozen=True, slots=True)
class _Body:
    queue: str
    data: bytes
    headers: Mapping[str, str] | None = None
    #: Seconds; None: for good.
    lives: float | None = None

    def make_properties(self, number: int) -> BasicProperties:
        """Return what stands beside it."""
        return BasicProperties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_id=str(number),
            headers=dict(self.headers) if self.headers else None,
            expiration=None if self.lives is None else f"{self.lives * 1000:.0f}",
        )


@dataclass(slots=True, eq=False)
class _Batch:
    bodies: list[_Body]
    #: Hears once the places of those that were refused, and of those whose fate is unknown.
    settled: Callable[[Collection[int], Collection[int]], None]
    left: int
    refused: set[int] = field(default_factory=set)


class RabbitPublisher:
    """The publishing half of the broker; a tenant of its own link."""

    def __init__(self, topology: Topology, signer: Signer, trouble: Trouble) -> None:
        self._topology = topology
        self._trouble = trouble
        self._signer = signer
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._link: Link | None = None
        self._connection: SelectConnection | None = None
        self._channel: Channel | None = None
        self._ready = False
        self._blocked = False
        self._waiting: deque[_Batch] = deque()
        #: Sequence number on the channel -> (batch, place in it), for what is not confirmed yet.
        self._unconfirmed: dict[int, tuple[_Batch, int]] = {}
        self._sequence = 0

    def use_link(self, link: Link) -> None:
        """Use this link from now on."""
        self._link = link

    @property
    def takes_messages(self) -> bool:
        """Tell whether messages are taken at the moment."""
        return self._ready and not self._blocked

    @property
    def blocked_words(self) -> str | None:
        """Tell why no messages are taken although there is a connection; None if they are."""
        if not (self._ready and self._blocked):
            return None
        return "RabbitMQ takes no messages: its memory or its disk is nearly full (rabbitmqctl status)"

    def publish(self, messages: Sequence[Outgoing], confirmed: Confirmed | None) -> None:
        """Hand messages over; `confirmed` is called once with the unconfirmed ones."""

        def confirm_batch(refused: Collection[int], unknown: Collection[int]) -> None:
            if confirmed is not None:
                confirmed(
                    Unconfirmed(
                        refused=[messages[place] for place in sorted(refused)],
                        unknown=[messages[place] for place in sorted(unknown)],
                    )
                )

        bodies: list[_Body] = []
        unwritable: set[int] = set()
        for place, outgoing in enumerate(messages):
            try:
                data = encode_message(outgoing.message)
                headers = {SIGNATURE: self._signer.sign_body(outgoing.queue, data)}
                bodies.append(_Body(self._topology.physical_name(outgoing.queue), data, headers, outgoing.lives))
            except InvalidMessage as error:
                log.error("a message for %s is dropped: %s", outgoing.queue, error)
                unwritable.add(place)
                bodies.append(_Body("", b""))
        batch = _Batch(bodies, confirm_batch, left=len(bodies) - len(unwritable), refused=unwritable)
        self._accept_batch(batch)

    def publish_raw(self, queue: str, body: bytes, headers: Mapping[str, str], settled: Callable[[bool], None]) -> None:
        """Hand bytes over as they are; `settled` hears whether they were taken."""

        def settle(refused: Collection[int], unknown: Collection[int]) -> None:
            if refused and self._link is not None:
                # The queue may have been deleted; the next time it is there.
                self._link.call_soon(self._make_dead_queue)
            settled(not (refused or unknown))

        self._accept_batch(_Batch([_Body(self._topology.physical_name(queue), body, headers)], settle, left=1))

    def await_confirms(self, *, timeout: float) -> None:
        """Wait up to `timeout` seconds until everything is confirmed."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while (self._waiting or self._unconfirmed) and deadline > time.monotonic():
                self._idle.wait(deadline - time.monotonic())

    def on_opened(self, connection: SelectConnection) -> None:
        self._connection = connection
        self._open_channel()

    def on_lost(self) -> None:
        self._connection = self._channel = None
        self._settle_all()

    def on_blocked(self, blocked: bool) -> None:
        log.warning("the broker %s messages", "takes no" if blocked else "takes")
        self._blocked = blocked

    def _accept_batch(self, batch: _Batch) -> None:
        with self._lock:
            taken = self.takes_messages and batch.left > 0
            if taken:
                self._waiting.append(batch)
        if taken and self._link is not None:
            self._link.call_soon(self._publish_waiting)
        else:
            batch.settled(range(len(batch.bodies)), ())

    def _open_channel(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        self._make_dead_queue()
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._on_ready(channel))

    def _make_dead_queue(self) -> None:
        """Declare the queue on a channel of its own, which alone is closed if the queue is there in another form."""
        place, arguments = self._topology.physical_name(DEAD), self._topology.queue_arguments(DEAD)

        def warn(channel: Channel, reason: Exception) -> None:
            # Work goes on: the dead queue takes messages in any form.
            if isinstance(reason, ChannelClosedByBroker):
                log.warning("the dead queue %s is used as it is, not as Echelon declares it: %s", place, reason)

        def close(channel: Channel) -> None:
            # pika calls this too when the broker closes the channel; an exception here would cost the connection.
            if channel.is_open:
                channel.close()

        def declare(channel: Channel) -> None:
            channel.add_on_close_callback(warn)
            channel.queue_declare(place, durable=True, arguments=arguments, callback=lambda _: close(channel))

        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=declare)

    def _on_ready(self, channel: Channel) -> None:
        with self._lock:
            self._channel, self._sequence, self._ready, self._blocked = channel, 0, True, False
        self._trouble.clear(self)

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        self._channel = None
        self._settle_all()
        if self._connection is not None and self._connection.is_open:
            self._trouble.note_failure(self, reason)
            self._connection.ioloop.call_later(REOPEN_AFTER, self._open_channel)

    def _publish_waiting(self) -> None:
        while True:
            with self._lock:
                channel = self._channel
                if not self._waiting or channel is None or not channel.is_open:
                    return
                batch = self._waiting.popleft()
                numbered = []
                for place, entry in enumerate(batch.bodies):
                    if place not in batch.refused:
                        self._sequence += 1
                        self._unconfirmed[self._sequence] = (batch, place)
                        numbered.append((self._sequence, entry))
            for number, body in numbered:
                channel.basic_publish("", body.queue, body.data, body.make_properties(number), mandatory=True)

    def _on_return(self, channel: Channel, method: Basic.Return, properties: BasicProperties, body: bytes) -> None:
        """Note what has no queue; its confirm follows."""
        with self._lock:
            found = self._unconfirmed.get(int(properties.message_id or 0))
        if found is not None:
            batch, place = found
            batch.refused.add(place)

    def _on_confirm(self, frame: Method) -> None:
        method = frame.method
        taken = isinstance(method, Basic.Ack)
        settled: list[_Batch] = []
        with self._lock:
            for number in self._confirmed_numbers(method.delivery_tag, multiple=method.multiple):
                batch, place = self._unconfirmed.pop(number)
                if not taken:
                    batch.refused.add(place)
                batch.left -= 1
                if not batch.left:
                    settled.append(batch)
            self._idle.notify_all()
        for batch in settled:
            batch.settled(batch.refused, ())

    def _confirmed_numbers(self, tag: int, *, multiple: bool) -> list[int]:
        if not multiple:
            return [tag] if tag in self._unconfirmed else []
        numbers = []
        for number in self._unconfirmed:
            if number > tag:
                break
            numbers.append(number)
        return numbers

    def _settle_all(self) -> None:
        """Say of everything what is known of it now: what waits was never sent, and what was sent may have arrived."""
        with self._lock:
            self._ready = False
            unsent = list(self._waiting)
            sent: dict[_Batch, set[int]] = {}
            for batch, place in self._unconfirmed.values():
                sent.setdefault(batch, set()).add(place)
            self._waiting.clear()
            self._unconfirmed.clear()
            self._idle.notify_all()
        for batch in unsent:
            batch.settled(range(len(batch.bodies)), ())
        for batch, places in sent.items():
            # A message returned for want of a queue was not delivered, though its confirm was still to come.
            batch.settled(batch.refused, places - batch.refused)
