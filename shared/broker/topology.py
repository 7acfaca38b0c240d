"""The queues as RabbitMQ knows them: their names and the arguments they are declared with.

A queue that exists with other arguments cannot be declared again (406), so whatever changes the arguments changes the
name: every name begins with a version, and a quorum queue carries its kind and the version of its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from echelon.shared.lease import ORDER_LIFETIME, QUEUE_LIFETIME
from echelon.shared.messages import DEAD, QUEUES

QueueType = Literal["classic", "quorum"]

#: Messages that cannot be decoded are kept for people to look at, for a limited time.
DEAD_MESSAGES, DEAD_BYTES = 10_000, 64 * 1024 * 1024
#: The header of a message's signature.
SIGNATURE = "signature"
#: Stands in the name of a quorum queue; changes whenever its arguments do.
_QUORUM = "quorum2"
#: RabbitMQ drops what a quorum queue has delivered more often than this: after 20 times, unless it is told otherwise,
#: from 4.0 on. A report comes again with every turn of an engine whose database is away; it must not get lost for that.
DELIVERIES = 2**31 - 1
_ORDERS = f"{QUEUES}orders."


@dataclass(frozen=True, slots=True)
class Topology:
    """How queues are kept by the broker."""

    queue_type: QueueType = "classic"

    def physical_name(self, queue: str) -> str:
        """Return the broker's name for a queue."""
        return queue if self.queue_type == "classic" else f"{queue}.{_QUORUM}"

    def queue_arguments(self, queue: str) -> dict[str, str | int]:
        """Return the arguments that a queue is declared with."""
        arguments: dict[str, str | int] = {"x-queue-type": self.queue_type}
        if self.queue_type == "quorum":
            arguments["x-delivery-limit"] = DELIVERIES
        if queue == DEAD:
            arguments |= {"x-max-length": DEAD_MESSAGES, "x-max-length-bytes": DEAD_BYTES}
        elif queue.startswith(_ORDERS):
            arguments |= {"x-expires": round(QUEUE_LIFETIME * 1000), "x-message-ttl": round(ORDER_LIFETIME * 1000)}
        return arguments
