"""The orders that one turn of the engine sends: one message per worker, however much it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shared.broker.port import Outgoing
from shared.ids import WorkerId
from shared.messages import Grant, Orders, Stop, orders_queue


@dataclass(slots=True)
class _Letter:
    #: Number of the order; 0: it grants nothing.
    number: int = 0
    #: Number of the report that told the room which is used: the leases count from its sending.
    told: int = 0
    grants: list[Grant] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    #: Number of the report whose attempts were renewed.
    renewed: int | None = None


class Outbox:
    """Gathers what is to be told until the transaction is committed. Used by the engine's thread alone."""

    def __init__(self, *, lease: float) -> None:
        self._lease = lease
        self._letters: defaultdict[WorkerId, _Letter] = defaultdict(_Letter)

    def grant(self, worker: WorkerId, grant: Grant, *, number: int, told: int) -> None:
        """Give attempts to a worker, in its order `number`, for the room that its report `told` spoke of."""
        letter = self._letters[worker]
        letter.number, letter.told = number, told
        letter.grants.append(grant)

    def stop(self, worker: WorkerId, stop: Stop) -> None:
        """Tell a worker to end an attempt."""
        self._letters[worker].stops.append(stop)

    def renewed(self, worker: WorkerId, report: int) -> None:
        """Tell a worker that the attempts named in its report have new leases."""
        self._letters[worker].renewed = report

    def clear(self) -> None:
        """Forget what a transaction that failed would have said."""
        self._letters.clear()

    def seal(self) -> list[Outgoing]:
        """Return the messages and begin anew."""
        outgoing = [
            Outgoing(orders_queue(worker), orders)
            for worker, letter in self._letters.items()
            for orders in self._orders(worker, letter)
        ]
        self._letters.clear()
        return outgoing

    def _orders(self, worker: WorkerId, letter: _Letter) -> Iterator[Orders]:
        """Yield one order, or two where leases begin with two different reports."""
        together = letter.renewed == letter.told
        if letter.grants:
            yield Orders(
                worker=worker,
                number=letter.number,
                answers=letter.told,
                lease=self._lease,
                grants=tuple(letter.grants),
                stop=tuple(letter.stops),
                renewed=together,
            )
        if not letter.grants or (letter.renewed is not None and not together):
            yield Orders(
                worker=worker,
                number=0,
                answers=letter.renewed or 0,
                lease=self._lease,
                stop=tuple(letter.stops),
                renewed=letter.renewed is not None,
            )


def stop_messages(stops: Iterable[tuple[WorkerId, Stop]], *, lease: float) -> list[Outgoing]:
    """Return orders outside the engine's own numbering (number 0): a courtesy that tells workers what to end."""
    by_worker: defaultdict[WorkerId, list[Stop]] = defaultdict(list)
    for worker, stop in stops:
        by_worker[worker].append(stop)
    return [
        Outgoing(orders_queue(worker), Orders(worker=worker, number=0, answers=0, lease=lease, stop=tuple(told)))
        for worker, told in by_worker.items()
    ]
