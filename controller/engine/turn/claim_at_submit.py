"""Claim a job's first tasks in the transaction that accepts it, while the engine has nothing else to do.

Between a submit and its first process there is one commit instead of two then, and no thread to wake. A busy engine
claims in its loop: then no slot is free, or an older task waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.outbox import Outbox, OutgoingOrders
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.turn.capacities import Capacities
from echelon.controller.engine.turn.dispatcher import Dispatcher
from echelon.shared.broker.port import Broker
from echelon.shared.ids import JobId
from echelon.shared.messages import Orders


@dataclass(frozen=True, slots=True)
class ClaimAtSubmit:
    """Writes the orders of a job that is being accepted. Safe for any thread."""

    broker: Broker
    #: Of its own: the engine's keeps in mind what its last turn has seen.
    dispatcher: Dispatcher
    counters: Counters
    #: Seconds that a lease lasts.
    lease: float
    #: Tells whether this process's engine waits for something to do.
    idle: Callable[[], bool]
    #: Tells workers, through this process's engine, what has been committed.
    tell: Callable[[OutgoingOrders], None]

    def claim_first_tasks(self, unit: UnitOfWork, job_id: JobId) -> OutgoingOrders:
        """Claim tasks of a locked job and save both; return the orders to send after the commit."""
        if not (self.idle() and self.broker.connected):
            return OutgoingOrders()
        # The process that locks a worker's row may have been stopped: a submit never waits for it.
        demands = Capacities(unit.tx, lease=self.lease, free=True)
        grantings = self.dispatcher.claim_tasks_of(unit, demands, job_id)
        unit.save_jobs()
        demands.save_changes()
        outbox = Outbox(lease=self.lease, longest=self.broker.longest)
        for granting in grantings:
            for grant in self.dispatcher.make_grants(unit.tx, granting):
                outbox.add_grant(granting.demand.worker, grant, number=granting.order, told=granting.demand.number)
        return outbox.take_orders()

    def send_orders(self, post: OutgoingOrders) -> None:
        """Tell the workers of what has been claimed and committed."""
        told = [one.message for one in post.outgoing if isinstance(one.message, Orders)]
        self.counters.granted.inc(sum(len(grant.tasks) for one in told for grant in one.grants))
        self.tell(post)
