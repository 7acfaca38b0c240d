"""Takes in what controllers order: new attempts, renewed leases, attempts to stop.

An attempt is held at most once, whatever the broker doubles, delays or reorders. It decides; the agent acts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.clock import Clock
from shared.ids import WorkerId
from shared.messages import AttemptRef, GrantedTask, Orders, Stop
from worker.holdings import Held, Holdings
from worker.sent import Sent, SentReports
from worker.settings import WorkerSettings


@dataclass(slots=True)
class Taken:
    """What is to be done about one order."""

    #: Attempts that came too late or to the wrong place: to be handed back.
    refused: list[AttemptRef] = field(default_factory=list)
    #: Held attempts that have lost their right to run, and why.
    stopped: list[tuple[Held, str]] = field(default_factory=list)


class OrderBook:
    """Remembers which attempts one life of a worker has been granted."""

    def __init__(
        self, worker: WorkerId, *, holdings: Holdings, sent: SentReports, clock: Clock, settings: WorkerSettings
    ) -> None:
        self._worker = worker
        self._holdings = holdings
        self._sent = sent
        self._clock = clock
        self._settings = settings
        #: When the lease of each attempt, that was granted here, ended at the earliest: until then its grant may come
        #: again. After that the grant is refused for its age.
        self._granted: dict[AttemptRef, float] = {}

    def take_in(self, orders: Orders) -> Taken:
        """Hold what an order grants, renew what it renews, and return what else is to be done."""
        taken = Taken()
        if orders.worker != self._worker:
            return taken
        sent = self._sent.find(orders.answers)
        self._forget_ended()
        self._holdings.take_in(orders.number, self._fresh(orders, sent, taken))
        if orders.renewed and sent is not None and sent.running is not None:
            self._renew(sent.running, orders, sent.at + orders.lease)
        taken.stopped = self._stopped(orders.stop, orders.lease)
        return taken

    def _fresh(self, orders: Orders, sent: Sent | None, taken: Taken) -> list[Held]:
        now = self._clock.monotonic()
        lease_end = now if sent is None else sent.at + orders.lease
        fresh: list[Held] = []
        for grant in orders.grants:
            for task in grant.tasks:
                held = Held(ref_of(task), grant, task, arrived=now, lease_end=lease_end, lease=orders.lease)
                if held.ref in self._granted or held.ref in self._holdings:
                    continue
                if self._wanted(held, now):
                    self._granted[held.ref] = lease_end
                    fresh.append(held)
                else:
                    taken.refused.append(held.ref)
        return fresh

    def _wanted(self, held: Held, now: float) -> bool:
        if self._holdings.withheld or not self._holdings.serves(held.grant.queue):
            return False
        return now < fence(held, self._settings)

    def _renew(self, running: Iterable[AttemptRef], orders: Orders, lease_end: float) -> None:
        refused = {ref_of(stop) for stop in orders.stop}
        for ref in running:
            held = self._holdings.get(ref)
            if held is not None and ref not in refused:
                self._lengthen(held, lease_end)

    def _lengthen(self, held: Held, lease_end: float) -> None:
        if held.look_at == math.inf:
            held.lease_end = max(held.lease_end, lease_end)
        elif self._clock.monotonic() < lease_end - reserve(held, self._settings):
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
        while self._granted and (oldest := next(iter(self._granted.items())))[1] < now:
            del self._granted[oldest[0]]


def ref_of(named: GrantedTask | Stop) -> AttemptRef:
    """Return the name of the attempt that is granted or stopped."""
    return AttemptRef(named.task_id, named.attempt)


def fence(held: Held, settings: WorkerSettings) -> float:
    """Return when an attempt has to be told to end, so that its process tree is gone well before its lease ends."""
    return held.lease_end - reserve(held, settings)


def reserve(held: Held, settings: WorkerSettings) -> float:
    """Return how long before the end of its lease an attempt has to be told to end."""
    return settings.margin_of(held.lease) + min(held.grant.recipe.grace, settings.grace_of(held.lease))
