"""A broker inside one process, for standalone mode and for tests.

Nothing is encoded and nothing outlives the process. `confirmed` is called before `publish` returns, on the thread of
the caller, who must not hold a lock that `confirmed` takes.

How it works: one lock for all queues; a queue is a deque of numbered messages, a subscription pulls from its queues in
the order of those numbers and remembers what it has not acked.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from echelon.shared.broker.port import Confirmed, Delivery, Outgoing, Unconfirmed
from echelon.shared.messages import Message

_Entry = tuple[int, Message]


@dataclass(slots=True, eq=False)
class _Queue:
    name: str
    entries: deque[_Entry] = field(default_factory=deque)
    listeners: list[MemorySubscription] = field(default_factory=list)


class MemorySubscription:
    """A stream of deliveries from queues of a `MemoryBroker`."""

    def __init__(
        self, lock: threading.Lock, queues: Sequence[_Queue], prefetch: int, notify: Callable[[], None] | None
    ) -> None:
        self._lock = lock
        self._queues = queues
        self._prefetch = prefetch
        self._arrived = threading.Condition(lock)
        self._notify = notify
        self._unacked: dict[int, tuple[_Queue, Message]] = {}
        self._woken = False
        self._closed = False
        with lock:
            for queue in queues:
                queue.listeners.append(self)

    def take_deliveries(self, *, limit: int, timeout: float) -> list[Delivery]:
        """Return up to `limit` deliveries, oldest first; wait up to `timeout` seconds for the first one."""
        deadline = time.monotonic() + timeout if timeout > 0 else 0.0
        with self._lock:
            while True:
                taken = self._pull_deliveries(limit)
                if taken or self._woken or self._closed or not deadline:
                    break
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._arrived.wait(remaining)
            self._woken = False
            return taken

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are done with for good."""
        with self._lock:
            for delivery in deliveries:
                self._unacked.pop(_number_of(delivery), None)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Give these back; they come again, to this subscription or another."""
        with self._lock:
            listeners = self._give_back(_number_of(delivery) for delivery in deliveries)
        _wake_owners(listeners)

    def reject(self, delivery: Delivery, reason: str) -> None:
        """Forget the message: an in-process broker keeps no dead messages."""
        self.ack([delivery])

    def wake(self) -> None:
        """Make a waiting `take_deliveries` return at once."""
        with self._lock:
            self._woken = True
            self._arrived.notify()

    def close(self) -> None:
        """Stop listening; what is not acked goes back to its queue."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for queue in self._queues:
                queue.listeners.remove(self)
            listeners = self._give_back(list(self._unacked))
            self._arrived.notify()
        _wake_owners(listeners)

    def note_arrival(self) -> None:
        """Note, with the lock held, that one of the queues has got something."""
        self._arrived.notify()

    def wake_owner(self) -> None:
        """Tell the owner, without the lock, that something has arrived."""
        if self._notify is not None:
            self._notify()

    def _pull_deliveries(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        room = min(limit, self._prefetch - len(self._unacked))
        while len(taken) < room and not self._closed:
            filled = [queue for queue in self._queues if queue.entries]
            if not filled:
                break
            queue = min(filled, key=lambda candidate: candidate.entries[0][0])
            number, message = queue.entries.popleft()
            self._unacked[number] = (queue, message)
            taken.append(Delivery(number, queue.name, message))
        return taken

    def _give_back(self, numbers: Iterable[int]) -> list[MemorySubscription]:
        listeners: dict[MemorySubscription, None] = {}
        for number in sorted(numbers, reverse=True):
            if number not in self._unacked:
                continue
            queue, message = self._unacked.pop(number)
            queue.entries.appendleft((number, message))
            for listener in queue.listeners:
                listener.note_arrival()
                listeners[listener] = None
        return list(listeners)


class MemoryBroker:
    """Queues in this process's memory."""

    volatile = True
    longest: int | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}
        self._numbers = itertools.count(1)
        self._subscriptions: list[MemorySubscription] = []
        self._closed = False

    def publish(self, messages: Sequence[Outgoing], *, confirmed: Confirmed | None = None) -> None:
        """Hand messages over, in order; those for a queue that does not exist are refused. Nothing is ever unknown."""
        refused: list[Outgoing] = []
        listeners: dict[MemorySubscription, None] = {}
        with self._lock:
            for outgoing in messages:
                queue = None if self._closed else self._queues.get(outgoing.queue)
                if queue is None:
                    refused.append(outgoing)
                    continue
                queue.entries.append((next(self._numbers), outgoing.message))
                for listener in queue.listeners:
                    listener.note_arrival()
                    listeners[listener] = None
        _wake_owners(listeners)
        if confirmed is not None:
            confirmed(Unconfirmed(refused))

    def subscribe(
        self, queues: Sequence[str], *, prefetch: int, notify: Callable[[], None] | None = None
    ) -> MemorySubscription:
        """Listen to queues, making those that do not exist; `notify` is called (any thread) when something arrives."""
        with self._lock:
            made = [self._queues.setdefault(name, _Queue(name)) for name in queues]
        subscription = MemorySubscription(self._lock, made, prefetch, notify)
        with self._lock:
            self._subscriptions.append(subscription)
        if any(queue.entries for queue in made):
            subscription.wake_owner()
        return subscription

    @property
    def connected(self) -> bool:
        """Tell whether messages flow at the moment."""
        return not self._closed

    @property
    def condition(self) -> str:
        """Tell how the connection is, for people."""
        return "connected" if self.connected else "closed"

    def close(self, *, timeout: float) -> None:
        """Refuse every further message and end all subscriptions; takes no time."""
        with self._lock:
            self._closed = True
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.close()


def _number_of(delivery: Delivery) -> int:
    assert isinstance(delivery.tag, int)
    return delivery.tag


def _wake_owners(listeners: Iterable[MemorySubscription]) -> None:
    for listener in listeners:
        listener.wake_owner()
