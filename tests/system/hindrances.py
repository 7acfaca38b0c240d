"""Hindrances that slow a cluster down: a locked table, flapping links, a broker that takes no messages."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from tests.contract.rabbit import PrivateRabbitmq
from tests.system.cluster import Cluster
from tests.system.proxy import Link

#: Every table that the daily work changes.
TABLES = ("jobs", "stages", "tasks", "attempts", "workers", "job_inputs")
#: Erlang, for RabbitMQ to run.
_ROOM = 'rabbit_policy:delete(<<"/">>, <<"hindrance">>, <<"tests">>)'
_FULL_WHILE = r"""
Wait = fun Wait(Is) -> case filelib:is_file("%(sign)s") of Is -> ok; _ -> timer:sleep(10), Wait(Is) end end,
Rules = <<"{\"max-length\": %(room)d, \"overflow\": \"reject-publish\"}">>,
Queues = <<"^echelon\\..*\\.(reports|orders)">>,
spawn(fun() ->
  Wait(true),
  rabbit_policy:parse_set(<<"/">>, <<"hindrance">>, Queues, Rules, 0, <<"queues">>, <<"tests">>),
  Wait(false),
  %(make_room)s
end)."""


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
    """Let the queues of reports and orders refuse what is more than `room` messages.

    On a busy machine rabbitmqctl may take longer than a lease to start. So it runs before: RabbitMQ waits for a file
    that comes when the queues are to be full and goes when there is to be room. Both take effect milliseconds later.
    """
    sign = rabbit.home / f"full-{uuid.uuid4().hex}"
    rabbit.control("eval", _FULL_WHILE % {"sign": sign, "room": room, "make_room": _ROOM})
    sign.touch()
    try:
        yield
    finally:
        sign.unlink()
        # In case RabbitMQ was killed meanwhile.
        rabbit.control("eval", f"{_ROOM}.")
