"""Hindrances that slow a cluster down: a locked table, flapping links, a broker that takes no messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from tests.contract.rabbit import PrivateRabbitmq
from tests.system.cluster import Cluster
from tests.system.proxy import Link

#: Every table that the daily work changes.
TABLES = ("jobs", "stages", "tasks", "attempts", "workers", "job_inputs")
_POLICY = "hindrance"


@contextmanager
def locked(cluster: Cluster, table: str) -> Iterator[None]:
    """Lock a table of the cluster's PostgreSQL against all reads and changes."""
    with psycopg.connect(cluster.database, connect_timeout=5) as connection:
        # Open transactions have to end first; none takes longer.
        connection.execute("SET lock_timeout = '15s'")
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        try:
            yield
        finally:
            connection.rollback()


def flap(links: Sequence[Link], seconds: float, *, every: float = 1.0) -> int:
    """Reset every connection of some links once in `every` seconds; return how often."""
    times = max(1, round(seconds / every))
    for _ in range(times):
        for link in links:
            link.cut()
        threading.Event().wait(every)
    return times


@contextmanager
def disk_alarm(rabbit: PrivateRabbitmq) -> Iterator[None]:
    """Let RabbitMQ find too little room on its disk: it reads nothing more from connections that publish."""
    rabbit.control("set_disk_free_limit", "9000GB")
    try:
        yield
    finally:
        rabbit.control("set_disk_free_limit", "1MB")


@contextmanager
def full_queues(rabbit: PrivateRabbitmq, room: int = 0) -> Iterator[None]:
    """Let the queues of reports and orders refuse what is more than `room` messages."""
    rules = json.dumps({"max-length": room, "overflow": "reject-publish"})
    rabbit.control("set_policy", "--apply-to", "queues", _POLICY, r"^echelon\..*\.(reports|orders)", rules)
    try:
        yield
    finally:
        rabbit.control("clear_policy", _POLICY)
