"""Takes in what controllers order: new attempts, renewed leases, attempts to stop.

An attempt is held at most once, whatever the broker doubles, delays or reorders. It decides; the agent acts.

An order may come again when its attempts have long ended here: a controller sends it once more when it does not know
whether it has arrived, the broker when it has not heard that it was taken in. Handed back, they would run a second time
although their results are on their way; so they are remembered for as long as an order can live.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from echelon.shared.ablation import ablated
from echelon.shared.clock import Clock
from echelon.shared.ids import WorkerId
from echelon.shared.lease import ORDER_REMEMBERED_FOR, ORDER_RESENT_FOR, order_resent_for
from echelon.shared.messages import AttemptRef, GrantedTask, Orders, Stop
from echelon.worker.holdings import Held, Holdings
from echelon.worker.liveness.fence import fence_of, reserve_of
from echelon.worker.liveness.report_log import ReportLog, SentReport

#: Attempts that are remembered for so long at most, some 250 bytes each; of more only those whose lease goes on.
_REMEMBERED = 20_000


@dataclass(slots=True)
class Taken:
    """What is to be done about one order."""

    #: Attempts that came too late or to the wrong place: to be handed back.
    refused: list[AttemptRef] = field(default_factory=list)
    #: Held attempts that have lost their right to run, and why.
    stopped: list[tuple[Held, str]] = field(default_factory=list)


class OrderBook:
    """Remembers which attempts one life of a worker has been granted."""

    def __init__(self, worker: WorkerId, *, holdings: Holdings, sent: ReportLog, clock: Clock) -> None:
        self._worker = worker
        self._holdings = holdings
        self._sent = sent
        self._clock = clock
        #: When the lease of each attempt, that was ever ordered here, ended at the earliest; later if it is a long one.
        self._granted: dict[AttemptRef, float] = {}

    def take_in(self, orders: Orders) -> Taken:
        """Hold what an order grants, renew what it renews, and return what else is to be done."""
        taken = Taken()
        if orders.worker != self._worker:
            return taken
        sent = self._sent.find_report(orders.answers)
        self._forget_ended()
        self._holdings.take_in(orders.number, self._fresh(orders, sent, taken), at=orders.at)
        if orders.renewed and sent is not None and sent.running is not None:
            self._renew(sent.running, orders, sent.at + orders.lease)
        taken.stopped = self._stopped(orders.stop, orders.lease)
        return taken

    def _fresh(self, orders: Orders, sent: SentReport | None, taken: Taken) -> list[Held]:
        now = self._clock.monotonic()
        lease_end = now if sent is None else sent.at + orders.lease
        fresh: list[Held] = []
        for grant in orders.grants:
            for task in grant.tasks:
                held = Held(ref_of(task), grant, task, arrived=now, lease_end=lease_end, lease=orders.lease)
                known = held.ref in self._granted or held.ref in self._holdings
                if known and not ablated("grant_memory"):
                    continue
                # What is handed back as well: it is somebody else's when its order comes a second time.
                # It is sent again for as long as a long lease lasts.
                self._granted[held.ref] = lease_end + order_resent_for(orders.lease) - ORDER_RESENT_FOR
                if self._wanted(held, now):
                    fresh.append(held)
                else:
                    taken.refused.append(held.ref)
        return fresh

    def _wanted(self, held: Held, now: float) -> bool:
        if self._holdings.withheld or not self._holdings.serves(held.grant.queue):
            return False
        return now < fence_of(held) or ablated("old_grant_refusal")

    def _renew(self, running: Iterable[AttemptRef], orders: Orders, lease_end: float) -> None:
        refused = {ref_of(stop) for stop in orders.stop}
        for ref in running:
            held = self._holdings.get(ref)
            if held is not None and ref not in refused:
                self._lengthen(held, lease_end)

    def _lengthen(self, held: Held, lease_end: float) -> None:
        if held.look_at == math.inf:
            held.lease_end = max(held.lease_end, lease_end)
        elif self._clock.monotonic() < lease_end - reserve_of(held):
            # From now on the lease is known again. An older answer, that was on its way all the time, tells nothing.
            held.lease_end, held.look_at = lease_end, math.inf

    def _stopped(self, stops: Iterable[Stop], lease: float) -> list[tuple[Held, str]]:
        found: list[tuple[Held, str]] = []
        for stop in stops:
            ref = ref_of(stop)
            # A stop that overtakes its grant holds as well.
            self._granted.setdefault(ref, self._clock.monotonic() + lease)
            held = self._holdings.get(ref)
            if held is not None:
                found.append((held, stop.reason))
        return found

    def _forget_ended(self) -> None:
        now = self._clock.monotonic()
        while self._granted:
            ref, lease_end = next(iter(self._granted.items()))
            long_ago = now - (ORDER_REMEMBERED_FOR if len(self._granted) <= _REMEMBERED else 0.0)
            if lease_end >= long_ago:
                return
            del self._granted[ref]


def ref_of(named: GrantedTask | Stop) -> AttemptRef:
    """Return the name of the attempt that is granted or stopped."""
    return AttemptRef(named.task_id, named.attempt)
