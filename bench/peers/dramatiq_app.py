"""Dramatiq with RabbitMQ and Redis, tuned: no middleware except, optionally, the one for results."""

from __future__ import annotations

from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers import stages

_kept = [Results(backend=RedisBackend(url=stages.REDIS), store_results=True)] if stages.RESULTS else []
dramatiq.set_broker(RabbitmqBroker(url=stages.BROKER, middleware=_kept))


@dramatiq.actor
def work(what: str, job: str, number: int, total: int) -> bool:
    """Run one task."""
    stages.run_task(what, job, number, total, send_tasks)
    return True


def send_tasks(calls: Sequence[stages.Call]) -> None:
    """Publish tasks over this thread's channel."""
    for call in calls:
        work.send(*call)
