"""The orders that one turn of the engine sends: one message per worker, numbered, however much it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.broker.port import Outgoing
from shared.ids import WorkerId
from shared.messages import Grant, Orders, Stop, orders_queue


@dataclass(slots=True)
class _Letter:
    grants: list[Grant] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    #: Number of the report whose attempts were renewed.
    renewed: int | None = None


class Outbox:
    """Gathers what is to be told until the transaction is committed. Used by the engine's thread alone."""

    def __init__(self, *, lease: float) -> None:
        self._lease = lease
        self._letters: defaultdict[WorkerId, _Letter] = defaultdict(_Letter)
        self._numbers: defaultdict[WorkerId, int] = defaultdict(int)

    def next_number(self, worker: WorkerId) -> int:
        """Return the number that the next order to a worker will have."""
        return self._numbers[worker] + 1

    def grant(self, worker: WorkerId, grant: Grant) -> None:
        """Give attempts to a worker."""
        self._letters[worker].grants.append(grant)

    def stop(self, worker: WorkerId, stop: Stop) -> None:
        """Tell a worker to end an attempt."""
        self._letters[worker].stops.append(stop)

    def renewed(self, worker: WorkerId, report: int) -> None:
        """Tell a worker that the attempts named in its report have new leases."""
        self._letters[worker].renewed = report

    def addressees(self) -> list[WorkerId]:
        """Return the workers that there is something to tell."""
        return list(self._letters)

    def clear(self) -> None:
        """Forget what a transaction that failed would have said."""
        self._letters.clear()

    def seal(self, last_report: dict[WorkerId, int]) -> list[Outgoing]:
        """Return the messages and begin anew; `last_report` says which report of each worker they answer."""
        outgoing = []
        for worker, letter in self._letters.items():
            self._numbers[worker] += 1
            answers = letter.renewed if letter.renewed is not None and not letter.grants else last_report.get(worker, 0)
            orders = Orders(
                worker=worker,
                number=self._numbers[worker],
                answers=answers,
                lease=self._lease,
                grants=tuple(letter.grants),
                stop=tuple(letter.stops),
                renewed=letter.renewed is not None and answers == letter.renewed,
            )
            outgoing.append(Outgoing(orders_queue(worker), orders))
        self._letters.clear()
        return outgoing

    def forget(self, workers: set[WorkerId]) -> None:
        """Drop the numbering of workers that are gone."""
        for worker in workers:
            self._numbers.pop(worker, None)


def stop_messages(stops: Iterable[tuple[WorkerId, Stop]], *, lease: float) -> list[Outgoing]:
    """Return orders outside the engine's own numbering (number 0): a courtesy that tells workers what to end."""
    by_worker: defaultdict[WorkerId, list[Stop]] = defaultdict(list)
    for worker, stop in stops:
        by_worker[worker].append(stop)
    return [
        Outgoing(orders_queue(worker), Orders(worker=worker, number=0, answers=0, lease=lease, stop=tuple(told)))
        for worker, told in by_worker.items()
    ]
