"""Huey with Redis, tuned: a consumer that waits in Redis instead of asking again and again; states where asked for."""

from __future__ import annotations

from collections.abc import Sequence

from huey import RedisHuey

from bench.peers import stages

huey = RedisHuey("bench", url=stages.REDIS, results=stages.RESULTS, blocking=True)


@huey.task()
def work(what: str, job: str, number: int, total: int) -> bool:
    """Be one task."""
    stages.work(what, job, number, total, send)
    return True


def send(calls: Sequence[stages.Call]) -> None:
    """Queue tasks."""
    for call in calls:
        work(*call)
