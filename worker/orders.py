"""Applies controllers' orders: new attempts, renewed leases, attempts to stop. It decides; the agent acts.

An attempt is held at most once, even if the broker doubles, delays or reorders orders.

An order may come again after its attempts have ended here: a controller sends it again if its delivery is uncertain,
the broker if it got no acknowledgement. If the worker handed these attempts back, they would run again although their
results are on the way. So it remembers them for as long as an order can live.
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
from echelon.worker.backlog import HeldAttempt
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.fence import compute_reserve
from echelon.worker.liveness.report_log import ReportLog, SentReport

#: Most remembered attempts, about 250 bytes each; beyond that, only those whose lease has not ended.
_REMEMBERED = 20_000


@dataclass(slots=True)
class OrderResult:
    """The actions that one order requires of the agent."""

    #: Attempts that this worker holds from now on.
    granted: list[HeldAttempt] = field(default_factory=list)
    #: Attempts to hand back: they came too late, or this worker cannot run them.
    refused: list[AttemptRef] = field(default_factory=list)
    #: Held attempts that have not started and are wanted back.
    recalled: list[HeldAttempt] = field(default_factory=list)
    #: Held attempts to stop, and the reasons.
    stopped: list[tuple[HeldAttempt, str]] = field(default_factory=list)


class OrderBook:
    """Remembers the attempts that were granted to one incarnation of a worker."""

    def __init__(self, worker: WorkerId, *, holdings: Holdings, sent: ReportLog, clock: Clock) -> None:
        self._worker = worker
        self._holdings = holdings
        self._sent = sent
        self._clock = clock
        #: Attempts that were ever granted here, and when their leases end at the earliest (long leases: later).
        self._granted: dict[AttemptRef, float] = {}

    def apply_orders(self, orders: Orders) -> OrderResult:
        """Hold the granted attempts, renew leases, and return the remaining actions."""
        taken = OrderResult()
        if orders.worker != self._worker:
            return taken
        sent = self._sent.find_report(orders.answers)
        self._forget_ended()
        taken.granted = self._select_new(orders, sent, taken)
        self._holdings.add_granted(orders.number, taken.granted)
        if orders.renewed and sent is not None and sent.running is not None:
            self._renew_leases(sent.running, orders, sent.at + orders.lease)
        taken.stopped = self._find_stopped(orders.stop, orders.lease)
        self._find_recalled(orders.recall, orders.lease, taken)
        return taken

    def _select_new(self, orders: Orders, sent: SentReport | None, taken: OrderResult) -> list[HeldAttempt]:
        now = self._clock.monotonic()
        lease_end = now if sent is None else sent.at + orders.lease
        fresh: list[HeldAttempt] = []
        for grant in orders.grants:
            reserve = compute_reserve(orders.lease, grant.recipe.grace)
            for task in grant.tasks:
                held = HeldAttempt(ref_of(task), grant, task, now, lease_end, orders.lease, reserve)
                known = held.ref in self._granted or held.ref in self._holdings
                if known and not ablated("grant_memory"):
                    continue
                # Also if it is handed back: when the order comes again, another worker may hold the attempt.
                # A controller sends an order again for as long as a long lease lasts.
                self._granted[held.ref] = lease_end + order_resent_for(orders.lease) - ORDER_RESENT_FOR
                if self._is_wanted(held, now):
                    fresh.append(held)
                else:
                    taken.refused.append(held.ref)
        return fresh

    def _is_wanted(self, held: HeldAttempt, now: float) -> bool:
        if self._holdings.wants_nothing or not self._holdings.serves_queue(held.grant.queue):
            return False
        return now < held.end_by or ablated("old_grant_refusal")

    def _renew_leases(self, running: Iterable[AttemptRef], orders: Orders, lease_end: float) -> None:
        refused = {ref_of(stop) for stop in orders.stop}
        for ref in running:
            held = self._holdings.get(ref)
            if held is not None and ref not in refused:
                self._extend_lease(held, lease_end)

    def _extend_lease(self, held: HeldAttempt, lease_end: float) -> None:
        if held.look_at == math.inf:
            held.lease_end = max(held.lease_end, lease_end)
        elif self._clock.monotonic() < lease_end - held.reserve:
            # The lease is known again. An older answer that was delayed does not satisfy the condition.
            held.lease_end, held.look_at = lease_end, math.inf

    def _find_stopped(self, stops: Iterable[Stop], lease: float) -> list[tuple[HeldAttempt, str]]:
        found: list[tuple[HeldAttempt, str]] = []
        for stop in stops:
            ref = ref_of(stop)
            # A stop also counts if it overtakes its grant.
            self._granted.setdefault(ref, self._clock.monotonic() + lease)
            held = self._holdings.get(ref)
            if held is not None:
                found.append((held, stop.reason))
        return found

    def _find_recalled(self, recall: Iterable[AttemptRef], lease: float, taken: OrderResult) -> None:
        for ref in recall:
            held = self._holdings.get(ref)
            if ref not in self._granted:
                # It overtakes its grant, which counts as known when it comes.
                self._granted[ref] = self._clock.monotonic() + lease
                taken.refused.append(ref)
            elif held is not None and held.pool is None:
                taken.recalled.append(held)

    def _forget_ended(self) -> None:
        now = self._clock.monotonic()
        while self._granted:
            ref, lease_end = next(iter(self._granted.items()))
            long_ago = now - (ORDER_REMEMBERED_FOR if len(self._granted) <= _REMEMBERED else 0.0)
            if lease_end >= long_ago:
                return
            del self._granted[ref]


def ref_of(named: GrantedTask | Stop) -> AttemptRef:
    """Return the reference of the attempt that is granted or stopped."""
    return AttemptRef(named.task_id, named.attempt)
