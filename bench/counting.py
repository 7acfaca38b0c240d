"""A worker that starts no processes: it reports each granted task of one queue as completed at once.

With it, a fan-out of a million shows the controller's memory within minutes. It uses the real protocol and the real
broker. It is a separate process: `python -m bench.counting BROKER_URL VOLUME`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from echelon.shared.broker.port import Broker, Outgoing
from echelon.shared.broker.rabbitmq import RabbitBroker
from echelon.shared.ids import WorkerId, new_worker_id
from echelon.shared.messages import REPORTS, AttemptRef, Finished, Orders, Outcome, Report, WorkerCard, orders_queue
from echelon.shared.signing import make_signer
from echelon.shared.volume import Volume

#: The queue of its tasks.
COUNTED = "counted"
_CAPACITY = 512
#: Seconds between two heartbeats.
_HEARTBEAT = 2.0


class Counter:
    """One incarnation of this worker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._id: WorkerId = new_worker_id()
        self._card = WorkerCard("counter", "localhost", os.getpid(), "0", {COUNTED: _CAPACITY})
        self._subscription = broker.subscribe([orders_queue(self._id)], prefetch=100)
        self._number = 0
        self._seen = 0

    def run(self) -> None:
        """Work until the process is killed."""
        beat = 0.0
        while True:
            if time.monotonic() >= beat:
                self._send_report(())
                beat = time.monotonic() + _HEARTBEAT
            deliveries = self._subscription.take_deliveries(limit=100, timeout=_HEARTBEAT / 2)
            orders = [one.message for one in deliveries if isinstance(one.message, Orders)]
            finished = [ended for order in orders for ended in self._finish_grants(order)]
            self._subscription.ack(deliveries)
            if finished:
                self._send_report(finished)

    def _finish_grants(self, order: Orders) -> Sequence[Finished]:
        self._seen = max(self._seen, order.number)
        return [
            Finished(grant.job_id, task.task_id, task.attempt, Outcome.COMPLETED, exit_code=0)
            for grant in order.grants
            for task in grant.tasks
        ]

    def _send_report(self, finished: Sequence[Finished]) -> None:
        self._number += 1
        beat = not finished
        held: tuple[AttemptRef, ...] | None = () if beat else None
        report = Report(
            self._id, self._number, {COUNTED: _CAPACITY}, self._seen, tuple(finished),
            running=held, card=self._card if beat else None,
        )  # fmt: skip
        self._broker.publish([Outgoing(REPORTS, report)])


if __name__ == "__main__":
    Counter(RabbitBroker(sys.argv[1], make_signer(Volume.open(sys.argv[2])))).run()
