"""All contestants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import echelon, peer
from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, PARTS, VERBS, Contestant, RunningContestant
from bench.limit import run_limit, run_xargs
from bench.resources import Resources

_ALL = frozenset({FAN_OUT, CHAIN, LATENCY, API, GROWTH, MEMORY, VERBS, PARTS})
_WORK = frozenset({FAN_OUT, CHAIN, LATENCY, PARTS})
#: Every rate is also given as a share of the limit's.
LIMIT = "limit"


def _describe_echelon(shape: echelon.Shape, title: str, servers: set[str], pace: float, start: float) -> Contestant:
    def up(resources: Resources, folder: Path) -> AbstractContextManager[RunningContestant]:
        return echelon.run_echelon(resources, folder, shape)

    return Contestant(shape.name, title, _ALL, frozenset(servers), pace, start, up)


def _describe_peers(engine: peer.Engine, title: str, servers: set[str], pace: float) -> Iterator[Contestant]:
    """Yield an engine that stores the state of every task, like Echelon, and the same engine without."""

    def up(resources: Resources, folder: Path, *, results: bool) -> AbstractContextManager[RunningContestant]:
        return peer.run_peer(resources, folder, engine, results=results)

    needed = frozenset({"redis", *servers})
    yield Contestant(engine.name, title, _WORK, needed, pace, 5.0, partial(up, results=True))
    lean = f"{title}, no task states"
    yield Contestant(f"{engine.name}-lean", lean, _WORK, needed, pace, 5.0, partial(up, results=False))


CONTESTANTS: dict[str, Contestant] = {
    one.name: one
    for one in (
        Contestant(LIMIT, "the limit: two processes, posix_spawn", _WORK, frozenset(), 3400, 0.5, run_limit),
        Contestant("xargs", "xargs -P2", frozenset({FAN_OUT}), frozenset(), 2200, 0.1, run_xargs),
        _describe_echelon(echelon.STANDALONE, "Echelon standalone", set(), 2000, 4),
        _describe_echelon(echelon.SQLITE, "Echelon, RabbitMQ + SQLite, two workers", {"rabbitmq"}, 2000, 6),
        _describe_echelon(
            echelon.POSTGRESQL, "Echelon, RabbitMQ + PostgreSQL, two workers", {"rabbitmq", "postgresql"}, 1800, 7
        ),
        *_describe_peers(peer.CELERY, "Celery, RabbitMQ + Redis", {"rabbitmq"}, 750),
        *_describe_peers(peer.DRAMATIQ, "Dramatiq, RabbitMQ + Redis", {"rabbitmq"}, 1200),
        *_describe_peers(peer.HUEY, "Huey, Redis", set(), 1200),
    )
}
