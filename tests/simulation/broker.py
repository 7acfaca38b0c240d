"""A broker that loses, doubles, delays and reorders messages, and disconnects without confirming them.

The `Hub` holds the queues; each process has a `Line` to it. Messages are encoded and decoded on their way, so nothing
is shared. A message that is unconfirmed when its line is cut may arrive or not; its sender learns only that. A queue of
orders disappears some time after its only listener has died.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from echelon.shared.broker.port import Confirmed, Delivery, Outgoing, Unconfirmed
from echelon.shared.codec import decode_message, encode_message
from echelon.shared.messages import DEAD, REPORTS, Message, Report
from tests.simulation.faults import CALM_FROM, Fault
from tests.simulation.world import Actor, Killed, Process, World

#: Seconds that a message is on its way when all is well.
LATENCY = 0.002, 0.008
#: Seconds after which a connection that was cut is back, and the queues of a broker that was restarted.
BACK_AFTER = 0.2, 5.0


@dataclass(eq=False)
class Queue:
    """A named queue."""

    name: str
    entries: deque[tuple[int, bytes]] = field(default_factory=deque)
    listeners: list[Subscription] = field(default_factory=list)


class Hub:
    """The broker itself."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queues: dict[str, Queue] = {}
        self.lines: list[Line] = []
        self.down_until = 0.0
        self.numbers = itertools.count(1)
        #: Called with each message that is put into a queue, and the queue's name.
        self.overhear: Callable[[str, bytes], None] = lambda queue, data: None

    def draw_latency(self) -> float:
        return self.world.rng.uniform(*LATENCY)

    def declare(self, name: str) -> Queue:
        return self.queues.setdefault(name, Queue(name))

    def deliver_message(self, name: str, data: bytes) -> bool:
        """Put a message into its queue; return whether there is one."""
        queue = self.queues.get(name)
        if queue is None or self.world.now < self.down_until:
            return False
        queue.entries.append((next(self.numbers), data))
        self.overhear(name, data)
        notify_listeners(queue)
        return True

    def lose_queue(self, name: str) -> None:
        """Drop a queue and all that is in it; its listeners make it anew after a moment."""
        queue = self.queues.pop(name, None)
        if queue is None:
            return
        for subscription in queue.listeners:
            subscription.unacked.clear()
            self.world.at(self.world.rng.uniform(*BACK_AFTER), subscription.line.actor, subscription.listen)

    def isolate(self, process: Process, seconds: float) -> None:
        """Cut every connection of a process, for longer than a lease."""
        for line in self.lines:
            if line.actor.process is process:
                line.cut(seconds)

    def restart(self, seconds: float) -> None:
        """Go away for a while, and sometimes come back with nothing."""
        self.down_until = self.world.now + seconds
        if self.world.rng.random() < 0.5:
            for name in list(self.queues):
                self.lose_queue(name)
        for line in self.lines:
            line.cut(seconds + self.world.rng.uniform(*BACK_AFTER))


class Line:
    """One process's connection: an adapter of the port."""

    volatile = False
    #: Little, so that orders come in parts.
    longest = 1700

    def __init__(self, hub: Hub, actor: Actor, wake: Callable[[], None]) -> None:
        self.hub = hub
        self.actor = actor
        self.wake = wake
        self.down_until = 0.0
        self.subscriptions: list[Subscription] = []
        #: Messages that were sent and of which nothing is known yet.
        self._open: dict[int, tuple[_Batch, Outgoing]] = {}
        self._sent = itertools.count()
        #: Called with the unconfirmed messages of each batch, for observers.
        self.on_unconfirmed: Callable[[Unconfirmed], None] = lambda unconfirmed: None
        hub.lines.append(self)
        actor.process.at_death.append(self.die)

    @property
    def condition(self) -> str:
        return "connected" if self.connected else "away"

    @property
    def connected(self) -> bool:
        return self.hub.world.now >= self.down_until

    def publish(self, messages: Sequence[Outgoing], *, confirmed: Confirmed | None = None) -> None:
        """Send messages, each with a fault of its own if one strikes; confirm the batch some time later."""
        world = self.hub.world
        if self.actor.process.dead:
            raise Killed
        batch = _Batch(self, len(messages), confirmed)
        for outgoing in messages:
            fault = world.strike("publish")
            if world.tracing:
                world.log(self.actor.name, f"sends {describe_message(outgoing.message)}")
            if fault is None:
                self._send_message(batch, outgoing, self.hub.draw_latency())
            else:
                self._send_badly(batch, outgoing, fault)
        if not messages and confirmed is not None:
            world.at(0.0, self.actor, lambda: confirmed(Unconfirmed()))

    def subscribe(
        self, queues: Sequence[str], *, prefetch: int, notify: Callable[[], None] | None = None
    ) -> Subscription:
        """Listen to queues, making those that do not exist."""
        subscription = Subscription(self, queues, prefetch, notify or self.wake)
        self.subscriptions.append(subscription)
        subscription.listen()
        return subscription

    def close(self, *, timeout: float) -> None:
        """Let go, as a process that ends does."""
        self.die()

    def cut(self, seconds: float) -> None:
        """Lose the connection for a while: unacked messages go back, unconfirmed ones may have arrived."""
        self.down_until = max(self.down_until, self.hub.world.now + seconds)
        unknown, self._open = self._open, {}
        for batch, outgoing in unknown.values():
            batch.answer(outgoing, None)
        for subscription in self.subscriptions:
            subscription.lose()
        self.hub.world.at(seconds, self.actor, self._reconnect)

    def die(self) -> None:
        """Leave for good; a queue without another listener disappears, at once or later."""
        self.down_until = float("inf")
        if self in self.hub.lines:
            self.hub.lines.remove(self)
        for subscription in self.subscriptions:
            subscription.close()
            for name in subscription.names:
                if name not in (REPORTS, DEAD):
                    delay = self.hub.world.rng.choice((0.0, 30.0))
                    self.hub.world.at(delay, None, lambda name=name: self.hub.queues.pop(name, None))

    def _reconnect(self) -> None:
        if self.connected:
            for subscription in self.subscriptions:
                subscription.listen()
            self.wake()

    def _send_message(
        self, batch: _Batch, outgoing: Outgoing, delay: float, *, lost: bool = False, again: float | None = None
    ) -> None:
        """Let a message arrive, or get lost on its way; tell the sender if the line is still there by then.

        `again` seconds later it arrives a second time, if it has arrived at all: a broker may double what it has, but
        what it has refused for want of a queue it does not have.
        """
        hub = self.hub
        if not self.connected:
            hub.world.at(0.1, None, lambda: batch.answer(outgoing, False))
            return
        data, number = encode_message(outgoing.message), next(self._sent)
        self._open[number] = batch, outgoing

        def deliver() -> None:
            there = hub.deliver_message(outgoing.queue, data)
            hub.world.at(hub.draw_latency(), None, lambda: self._confirm_message(number, there))
            if there and again is not None:
                hub.world.at(again, None, lambda: hub.deliver_message(outgoing.queue, data))

        if not lost:
            hub.world.at(delay, None, deliver)

    def _confirm_message(self, number: int, taken: bool) -> None:
        batch, outgoing = self._open.pop(number, (None, None))
        if batch is not None and outgoing is not None:
            batch.answer(outgoing, taken)

    def _send_badly(self, batch: _Batch, outgoing: Outgoing, fault: Fault) -> None:
        world, kind = self.hub.world, fault.kind
        if kind in ("kill", "pause"):
            world.suffer(self.actor, fault)
        if kind == "refuse":
            world.at(0.05, None, lambda: batch.answer(outgoing, False))
        elif kind == "drop":
            # Confirmed, and lost with its queue afterwards.
            world.at(0.05, None, lambda: batch.answer(outgoing, True))
        elif kind == "cut":
            self._send_message(batch, outgoing, 0.0, lost=True)
        else:
            again = fault.seconds / 10 if kind == "duplicate" else None
            self._send_message(
                batch, outgoing, fault.seconds if kind == "delay" else self.hub.draw_latency(), again=again
            )
        if kind == "kill_after":
            world.kill(self.actor.process)
            raise Killed
        else:
            self._fail_afterwards(outgoing.queue, fault)

    def _fail_afterwards(self, queue: str, fault: Fault) -> None:
        """Let the connection or the broker fail, when a message has been sent."""
        kind = fault.kind
        if kind == "cut":
            self.cut(fault.seconds / 4)
        elif kind == "confirm_lost":
            # The message is on its way, and arrives.
            self.cut(self.hub.world.rng.uniform(*BACK_AFTER))
        elif kind == "isolate":
            # For longer than a lease, but not far into the calm.
            left = CALM_FROM + 5.0 - self.hub.world.now
            self.hub.isolate(self.actor.process, min(max(20.0, fault.seconds), left))
        elif kind == "lose_queue":
            self.hub.world.at(0.01, None, lambda: self.hub.lose_queue(queue))
        elif kind == "broker_restart":
            self.hub.restart(fault.seconds / 3)


class Subscription:
    """A stream of deliveries of one process."""

    def __init__(self, line: Line, names: Sequence[str], prefetch: int, notify: Callable[[], None]) -> None:
        self.line = line
        self.names = tuple(names)
        self.prefetch = prefetch
        self.notify = notify
        self.unacked: dict[int, tuple[str, bytes]] = {}

    def take_deliveries(self, *, limit: int, timeout: float) -> list[Delivery]:
        """Return what is there; note how long the caller would have waited."""
        world, actor = self.line.hub.world, self.line.actor
        if actor.process.dead:
            raise Killed
        taken = self._take_messages(limit) if self.line.connected else []
        if not taken:
            if timeout > 0:
                actor.wait = timeout
            return []
        fault = world.strike("take")
        if fault is not None and fault.kind == "cut":
            self.line.cut(fault.seconds / 4)
        elif fault is not None and fault.kind == "redeliver":
            self.requeue(taken)
            return []
        else:
            world.suffer(actor, fault)
        return taken

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forget deliveries, unless the ack gets lost: then they come again."""
        if not deliveries:
            return
        fault = self.line.hub.world.strike("ack")
        if fault is not None and fault.kind == "lost":
            self.line.cut(0.5)
        self.line.hub.world.suffer(self.line.actor, fault)
        for delivery in deliveries:
            self.unacked.pop(_read_tag(delivery), None)

    def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back."""
        if self.line.actor.process.dead:
            return
        self._give_back([_read_tag(delivery) for delivery in deliveries])

    def reject(self, delivery: Delivery, reason: str) -> None:
        """Never called: no report here is beyond the engine."""
        raise AssertionError(reason)

    def wake(self) -> None:
        """Make a waiting `take_deliveries` return."""
        if not self.line.actor.process.dead:
            self.line.wake()

    def close(self) -> None:
        """Listen no more."""
        self.lose()
        for queue in self.line.hub.queues.values():
            if self in queue.listeners:
                queue.listeners.remove(self)
        self.names_closed = True

    def lose(self) -> None:
        """Lose the connection: unacked messages return to their queue."""
        self._give_back(list(self.unacked))

    def listen(self) -> None:
        """Make the queues that are missing and listen to them."""
        for name in self.names:
            queue = self.line.hub.declare(name)
            if self not in queue.listeners:
                queue.listeners.append(self)
            notify_listeners(queue)

    def _take_messages(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for name in self.names:
            queue = self.line.hub.queues.get(name)
            while queue and queue.entries and len(taken) < limit and len(self.unacked) < self.prefetch:
                number, data = queue.entries.popleft()
                self.unacked[number] = (name, data)
                taken.append(Delivery(number, name, decode_message(data)))
        return taken

    def _give_back(self, numbers: Sequence[int]) -> None:
        for number in sorted(numbers, reverse=True):
            if number not in self.unacked:
                continue
            name, data = self.unacked.pop(number)
            queue = self.line.hub.queues.get(name)
            if queue is not None:
                queue.entries.appendleft((number, data))
                notify_listeners(queue)


class _Batch:
    """Messages that are confirmed together."""

    def __init__(self, line: Line, count: int, confirmed: Confirmed | None) -> None:
        self._line = line
        self._open = count
        self._confirmed = confirmed
        self._refused: list[Outgoing] = []
        self._unknown: list[Outgoing] = []

    def answer(self, outgoing: Outgoing, taken: bool | None) -> None:
        """Take the broker's answer: whether a message was taken; None if unknown."""
        if not taken:
            (self._unknown if taken is None else self._refused).append(outgoing)
        self._open -= 1
        if self._open == 0:
            self._line.hub.world.at(0.0, self._line.actor, self._report_batch)

    def _report_batch(self) -> None:
        unconfirmed = Unconfirmed(self._refused, self._unknown)
        if unconfirmed:
            self._line.on_unconfirmed(unconfirmed)
        if self._confirmed is not None:
            self._confirmed(unconfirmed)


def notify_listeners(queue: Queue) -> None:
    """Tell the listeners of a queue that something is there."""
    for subscription in queue.listeners:
        if queue.entries and subscription.line.connected:
            subscription.notify()


def describe_message(message: Message) -> str:
    """Return a message in one line, for the trace."""
    if isinstance(message, Report):
        ends = [f"{one.task_id[-12:]}/{one.attempt}={one.outcome}" for one in message.finished]
        running = None if message.running is None else [f"{ref.task_id[-12:]}/{ref.attempt}" for ref in message.running]
        released = [f"{ref.task_id[-12:]}/{ref.attempt}" for ref in message.released]
        return (
            f"report {message.number} of {message.worker[:8]}: room {message.room} seen {message.seen} ended {ends}"
            f" released {released} running {running} buried {[life[:8] for life in message.buried]}"
            f"{' goodbye' if message.goodbye else ''}"
        )
    grants = [f"{task.task_id[-12:]}/{task.attempt}" for grant in message.grants for task in grant.tasks]
    stops = [f"{stop.task_id[-12:]}/{stop.attempt}:{stop.reason}" for stop in message.stop]
    return (
        f"orders {message.number} to {message.worker[:8]}: answers {message.answers} grants {grants} stop {stops}"
        f"{' renewed' if message.renewed else ''}"
    )


def _read_tag(delivery: Delivery) -> int:
    assert isinstance(delivery.tag, int)
    return delivery.tag
