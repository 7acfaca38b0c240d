"""Dramatiq with RabbitMQ and Redis, tuned: no middleware but the one that keeps results, and that where asked for."""

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
    """Be one task."""
    stages.work(what, job, number, total, send)
    return True


def send(calls: Sequence[stages.Call]) -> None:
    """Publish tasks over this thread's channel."""
    for call in calls:
        work.send(*call)
