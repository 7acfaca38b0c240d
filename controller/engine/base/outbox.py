"""The orders that one turn of the engine sends: one message per worker, or as many as its bytes ask for.

The parts of an order arrive in their turn, and the last of them carries its number. So a worker that has seen the
number holds all that it will ever get of the order, and while it has not the whole order counts against its room.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from echelon.controller.engine.base.packing import pack_grants
from echelon.shared.broker.port import Broker, Outgoing, Unconfirmed
from echelon.shared.errors import Conflict
from echelon.shared.ids import WorkerId
from echelon.shared.messages import AttemptRef, Grant, Orders, Report, Stop, orders_queue

#: Seconds that the broker gets to take an order to drain.
_DRAIN_ORDER = 5.0


@dataclass(slots=True)
class _WorkerOrders:
    #: Number of the order; 0: it grants nothing.
    number: int = 0
    #: Number of the report that told the room which is used: the leases count from its sending.
    told: int = 0
    grants: list[Grant] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    recalled: list[AttemptRef] = field(default_factory=list)
    #: Number of the report whose attempts were renewed.
    renewed: int | None = None
    #: For how many seconds.
    lease: float = 0.0


@dataclass(slots=True)
class OutgoingOrders:
    """Messages that are to be sent."""

    outgoing: list[Outgoing] = field(default_factory=list)
    #: Attempts that no message can hold, as if their workers had found that out.
    refused: list[Report] = field(default_factory=list)


class Outbox:
    """Gathers what is to be told until the transaction is committed. Used by one thread."""

    def __init__(self, *, lease: float, longest: int | None = None) -> None:
        """`longest`: bytes that a message may have; None: any number."""
        self._lease = lease
        self._longest = longest
        self._letters: defaultdict[WorkerId, _WorkerOrders] = defaultdict(_WorkerOrders)

    def add_grant(self, worker: WorkerId, grant: Grant, *, number: int, told: int) -> None:
        """Give attempts to a worker, in its order `number`, for the room that its report `told` spoke of."""
        letter = self._letters[worker]
        letter.number, letter.told = number, told
        letter.grants.append(grant)

    def add_stop(self, worker: WorkerId, stop: Stop) -> None:
        """Tell a worker to end an attempt."""
        self._letters[worker].stops.append(stop)

    def add_recall(self, worker: WorkerId, ref: AttemptRef) -> None:
        """Ask a worker to give an attempt back if it has not started."""
        self._letters[worker].recalled.append(ref)

    def add_renewal(self, worker: WorkerId, report: int, *, lease: float) -> None:
        """Tell a worker that the attempts named in its report have new leases of so many seconds."""
        letter = self._letters[worker]
        letter.renewed, letter.lease = report, lease

    def clear(self) -> None:
        """Forget what a transaction that failed would have said."""
        self._letters.clear()

    def take_orders(self) -> OutgoingOrders:
        """Return the messages and begin anew."""
        post = OutgoingOrders()
        for worker, letter in self._letters.items():
            for orders in self._make_orders(worker, letter, post):
                post.outgoing.append(Outgoing(orders_queue(worker), orders))
        self._letters.clear()
        return post

    def _make_orders(self, worker: WorkerId, letter: _WorkerOrders, post: OutgoingOrders) -> Iterator[Orders]:
        """Yield one order where all is small and counts from one report; else the grants first, then the rest."""
        packed = pack_grants(letter.grants, longest=self._longest)
        if packed.unfit:
            post.refused.append(Report(worker=worker, number=0, finished=tuple(packed.unfit)))
        lease = self._lease if letter.renewed is None else letter.lease
        apart = letter.renewed not in (None, letter.told) or lease != self._lease or not packed.small
        if letter.grants and apart:
            yield from self._make_parts(worker, letter, packed.parts)
            if not letter.stops and not letter.recalled and letter.renewed is None:
                return
        yield Orders(
            worker=worker,
            number=0 if apart else letter.number,
            answers=letter.told if letter.renewed is None else letter.renewed,
            lease=lease,
            grants=() if apart else tuple(grant for part in packed.parts for grant in part),
            stop=tuple(letter.stops),
            recall=tuple(letter.recalled),
            renewed=letter.renewed is not None,
        )

    def _make_parts(self, worker: WorkerId, letter: _WorkerOrders, parts: list[list[Grant]]) -> Iterator[Orders]:
        last = len(parts) - 1
        for place, grants in enumerate(parts or [[]]):
            yield Orders(
                worker=worker,
                number=letter.number if place >= last else 0,
                answers=letter.told,
                lease=self._lease,
                grants=tuple(grants),
            )


def stop_messages(
    stops: Iterable[tuple[WorkerId, Stop]], recalled: Iterable[tuple[WorkerId, AttemptRef]] = (), *, lease: float
) -> list[Outgoing]:
    """Return orders outside the engine's own numbering (number 0): what workers are to end and to give back."""
    letters: defaultdict[WorkerId, _WorkerOrders] = defaultdict(_WorkerOrders)
    for worker, stop in stops:
        letters[worker].stops.append(stop)
    for worker, ref in recalled:
        letters[worker].recalled.append(ref)
    return [
        Outgoing(
            orders_queue(worker),
            Orders(worker=worker, number=0, answers=0, lease=lease, stop=tuple(one.stops), recall=tuple(one.recalled)),
        )
        for worker, one in letters.items()
    ]


def order_drain(broker: Broker, worker: WorkerId, *, lease: float) -> None:
    """Tell a worker to take no more tasks and to end; raise Conflict if no message reaches its queue."""
    heard, lost = threading.Event(), []

    def note(unconfirmed: Unconfirmed) -> None:
        lost.extend(unconfirmed.all_messages)
        heard.set()

    order = Orders(worker=worker, number=0, answers=0, lease=lease, drain=True)
    broker.publish([Outgoing(orders_queue(worker), order)], confirmed=note)
    if not heard.wait(_DRAIN_ORDER) or lost:
        raise Conflict(f"worker {worker} cannot be told: it is gone, or the broker is away ({broker.condition})")
