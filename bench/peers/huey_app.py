"""Huey with Redis, tuned: the consumer blocks in Redis instead of polling; task states are optional."""

from __future__ import annotations

from collections.abc import Sequence

from huey import RedisHuey

from bench.peers import stages

huey = RedisHuey("bench", url=stages.REDIS, results=stages.RESULTS, blocking=True)


@huey.task()
def work(what: str, job: str, number: int, total: int) -> bool:
    """Run one task."""
    stages.run_task(what, job, number, total, send_tasks)
    return True


def send_tasks(calls: Sequence[stages.Call]) -> None:
    """Queue tasks."""
    for call in calls:
        work(*call)
