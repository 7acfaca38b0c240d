"""Sends orders after the commit, and deals with those that the broker did not confirm.

An order that was certainly not delivered counts as handed back: its attempts run elsewhere at once.

One that was sent and never confirmed, because the connection went, is another matter: its worker may have got it and
run its attempts, and another worker must not begin the next ones beside. Such an order is in doubt. It is sent once
more when the broker is back, as often as that takes: a worker takes in an attempt once. If one of its attempts has
ended meanwhile it is forgotten: it had arrived, or the watchdog judges the rest. While it is in doubt a refusal tells
nothing, for the first sending may have arrived: a broker that has come back without its queues refuses orders for
workers that are on their way to make theirs anew. One that arrives when its leases have run out is still worth sending:
a worker that never had it hands its attempts back, and they run elsewhere at once instead of when the watchdog has
heard workers for a lease. One that is older than workers remember is forgotten, and the watchdog judges.

Orders in doubt cannot pile up while the broker is away: they were under way on one channel when it closed, which is no
more than workers had told to have room for, and without a channel every further order is refused.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from echelon.controller.core.states import State
from echelon.controller.datastore.port import Datastore
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.outbox import OutgoingOrders
from echelon.shared.ablation import ablated
from echelon.shared.broker.port import Broker, Outgoing, Unconfirmed
from echelon.shared.clock import Clock
from echelon.shared.lease import order_resent_for
from echelon.shared.messages import AttemptRef, Orders, Report

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _UnconfirmedOrder:
    """An order that may have arrived or not."""

    outgoing: Outgoing
    #: Its message.
    orders: Orders
    #: When it was sent for the first time, on the monotonic clock: workers remember it for a while from then on.
    since: float


class Sender:
    """Tells workers what has been committed. `send_again` belongs to the engine's thread, the rest to any."""

    def __init__(
        self,
        *,
        broker: Broker,
        store: Datastore,
        clock: Clock,
        counters: Counters,
        lease: float,
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called, from any thread, when something has come back; `lease` is the length of one in seconds."""
        self._broker = broker
        self._store = store
        self._clock = clock
        self._counters = counters
        self._resent_for = order_resent_for(lease)
        self._wake = wake
        #: Attempts that came to nothing before their workers had them, as if those had said so. The engine's to empty.
        self.returned: deque[Report] = deque()
        self._doubtful: deque[_UnconfirmedOrder] = deque()

    def send_orders(self, post: OutgoingOrders) -> None:
        """Tell workers what has been committed; what cannot be told comes back."""
        self._give_back(post.refused)
        if post.outgoing:
            self._broker.publish(post.outgoing, confirmed=partial(self._on_confirmed, self._clock.monotonic()))

    def send_again(self) -> None:
        """Send once more what is in doubt, when there is a connection; raises Unavailable, and forgets nothing then."""
        if not self._doubtful or not self._broker.connected:
            return
        waiting = list(self._doubtful)
        forgotten = self._clock.monotonic() - self._resent_for
        granted = self._still_granted([one for one in waiting if one.since > forgotten])
        # Orders that another thread added meanwhile come after them.
        for _ in waiting:
            self._doubtful.popleft()
        for one in granted:
            self._broker.publish([one.outgoing], confirmed=partial(self._on_confirmed_again, one))

    def _still_granted(self, doubtful: Sequence[_UnconfirmedOrder]) -> list[_UnconfirmedOrder]:
        """Return the orders of which no attempt has ended or lost its claim meanwhile.

        If one has ended, the order had arrived. If a person has ended one, the watchdog judges the others.
        """
        task_ids = {ref.task_id for one in doubtful for ref in _list_attempts(one.orders)}
        if not task_ids:
            return []
        with self._store.write() as tx:
            held = tx.load_tasks(task_ids)
        running = {
            (task.worker, AttemptRef(task.task_id, task.attempt)) for task in held if task.state is State.RUNNING
        }
        return [
            one
            for one in doubtful
            if running.issuperset((one.orders.worker, ref) for ref in _list_attempts(one.orders))
        ]

    def _on_confirmed(self, since: float, unconfirmed: Unconfirmed) -> None:
        """Take note, on a thread of the broker, of the orders that were not confirmed."""
        refused = _select_orders(unconfirmed.all_messages if ablated("unconfirmed_orders") else unconfirmed.refused)
        self._counters.undelivered.inc(len(refused))
        self._give_back([report for _, orders in refused if (report := _handed_back(orders))])
        # Renewals and stops of an order without grants are repeated after the next report.
        unknown = [
            _UnconfirmedOrder(one, orders, since)
            for one, orders in _select_orders(unconfirmed.unknown)
            if orders.grants
        ]
        if unknown:
            log.warning("the connection went with %d orders that were not confirmed; they are sent again", len(unknown))
            self._doubtful.extend(unknown)

    def _on_confirmed_again(self, one: _UnconfirmedOrder, unconfirmed: Unconfirmed) -> None:
        if unconfirmed:
            self._doubtful.append(one)

    def _give_back(self, reports: Sequence[Report]) -> None:
        if reports:
            self.returned.extend(reports)
            self._wake()


def _select_orders(messages: Iterable[Outgoing]) -> list[tuple[Outgoing, Orders]]:
    return [(one, one.message) for one in messages if isinstance(one.message, Orders)]


def _list_attempts(orders: Orders) -> list[AttemptRef]:
    return [AttemptRef(task.task_id, task.attempt) for grant in orders.grants for task in grant.tasks]


def _handed_back(orders: Orders) -> Report | None:
    """Return granted attempts that never reached their worker, as if it had handed them back."""
    refs = tuple(_list_attempts(orders))
    if not refs or ablated("undelivered_orders"):
        return None
    return Report(worker=orders.worker, number=0, released=refs)
