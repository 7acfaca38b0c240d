"""The port of a broker: named queues, publishing in batches with confirms, deliveries that are acknowledged.

An adapter passes the suite in tests/contract/test_broker.py. No adapter may block a caller of `publish`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from echelon.shared.messages import Message


class Outgoing(msgspec.Struct, frozen=True):
    """A message and the queue it is meant for."""

    queue: str
    message: Message
    #: Seconds after which it is useless: a broker that keeps messages may drop it. None: never.
    lives: float | None = None


class Delivery(msgspec.Struct, frozen=True):
    """A message that arrived, to be acked once its effects are durable."""

    #: The adapter's own mark; means nothing to anybody else.
    tag: object
    queue: str
    message: Message


class Unconfirmed(msgspec.Struct, frozen=True):
    """The messages of a published batch that the broker did not confirm; false when it confirmed all."""

    #: Certainly not delivered: no consumer listens, the broker refused them, or they were never sent.
    refused: Sequence[Outgoing] = ()
    #: Sent, and the connection went before the broker said what became of them: they may arrive, or have arrived.
    unknown: Sequence[Outgoing] = ()

    def __bool__(self) -> bool:
        return bool(self.refused or self.unknown)

    @property
    def all_messages(self) -> list[Outgoing]:
        """Return both, for those to whom a message that arrives twice is the same as one that arrives once."""
        return [*self.refused, *self.unknown]


#: Called once per published batch, from a thread of the adapter, when the fate of each message is known or never will
#: be. Must not block.
Confirmed = Callable[[Unconfirmed], None]


class Subscription(Protocol):
    """A stream of deliveries from some queues. One thread at a time may use it."""

    def take_deliveries(self, *, limit: int, timeout: float) -> list[Delivery]:
        """Return up to `limit` deliveries, oldest first; wait up to `timeout` seconds for the first one."""

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are done with for good."""

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Give these back; they come again, to this subscription or another."""

    def reject(self, delivery: Delivery, reason: str) -> None:
        """Take this out of the way for good; a broker that keeps messages keeps it among the dead ones."""

    def wake(self) -> None:
        """Make a waiting `take_deliveries` return at once. Any thread may call it."""

    def close(self) -> None:
        """Stop listening; what is not acked goes back to its queue."""


class Broker(Protocol):
    """A connection to one product. Safe for any thread."""

    #: True when messages do not survive the process.
    volatile: bool
    #: Longest message in bytes; None: messages are not written as bytes, and any is taken.
    longest: int | None

    def publish(self, messages: Sequence[Outgoing], *, confirmed: Confirmed | None = None) -> None:
        """Hand messages over, in order, without waiting; `confirmed` gets the unconfirmed ones."""

    def subscribe(
        self, queues: Sequence[str], *, prefetch: int, notify: Callable[[], None] | None = None
    ) -> Subscription:
        """Listen to queues, making those that do not exist; `notify` is called (any thread) when something arrives."""

    @property
    def connected(self) -> bool:
        """Tell whether messages flow at the moment."""

    @property
    def condition(self) -> str:
        """Tell in words how the connection is: connected, or why not and what to do."""

    def close(self, *, timeout: float) -> None:
        """Flush what can be flushed within `timeout` seconds and let go."""
