"""Celery with RabbitMQ and Redis, tuned: no events, no rate limits, prefetch, one connection for a batch; task states
are optional."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery

from bench.peers import stages

app = Celery("bench", broker=stages.BROKER, backend=stages.REDIS if stages.RESULTS else None)
app.conf.update(
    task_ignore_result=not stages.RESULTS,
    task_serializer="json",
    worker_prefetch_multiplier=32,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def work(what: str, job: str, number: int, total: int) -> bool:
    """Run one task."""
    stages.run_task(what, job, number, total, send_tasks)
    return True


def send_tasks(calls: Sequence[stages.Call]) -> None:
    """Publish tasks over one channel."""
    with app.producer_or_acquire() as producer:
        for call in calls:
            work.apply_async(call, producer=producer)
