"""Who can take part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import echelon, peer
from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, PARTS, VERBS, Contestant, Up
from bench.ground import Ground
from bench.limit import limit, xargs

_ALL = frozenset({FAN_OUT, CHAIN, LATENCY, API, GROWTH, MEMORY, VERBS, PARTS})
_WORK = frozenset({FAN_OUT, CHAIN, LATENCY, PARTS})
#: The limit: every rate is told as a part of its.
LIMIT = "limit"


def _echelon(shape: echelon.Shape, title: str, servers: set[str], pace: float, start: float) -> Contestant:
    def up(ground: Ground, folder: Path) -> AbstractContextManager[Up]:
        return echelon.running(ground, folder, shape)

    return Contestant(shape.name, title, _ALL, frozenset(servers), pace, start, up)


def _peers(engine: peer.Engine, title: str, servers: set[str], pace: float) -> Iterator[Contestant]:
    """Yield an engine that keeps the state of every task, as Echelon does, and the same one that keeps none."""

    def up(ground: Ground, folder: Path, *, results: bool) -> AbstractContextManager[Up]:
        return peer.running(ground, folder, engine, results=results)

    needed = frozenset({"redis", *servers})
    yield Contestant(engine.name, title, _WORK, needed, pace, 5.0, partial(up, results=True))
    lean = f"{title}, no task states"
    yield Contestant(f"{engine.name}-lean", lean, _WORK, needed, pace, 5.0, partial(up, results=False))


CONTESTANTS: dict[str, Contestant] = {
    one.name: one
    for one in (
        Contestant(LIMIT, "the limit: two processes, posix_spawn", _WORK, frozenset(), 3400, 0.5, limit),
        Contestant("xargs", "xargs -P2", frozenset({FAN_OUT}), frozenset(), 2200, 0.1, xargs),
        _echelon(echelon.STANDALONE, "Echelon standalone", set(), 2000, 4),
        _echelon(echelon.SQLITE, "Echelon, RabbitMQ + SQLite, two workers", {"rabbitmq"}, 2000, 6),
        _echelon(
            echelon.POSTGRESQL, "Echelon, RabbitMQ + PostgreSQL, two workers", {"rabbitmq", "postgresql"}, 1800, 7
        ),
        *_peers(peer.CELERY, "Celery, RabbitMQ + Redis", {"rabbitmq"}, 750),
        *_peers(peer.DRAMATIQ, "Dramatiq, RabbitMQ + Redis", {"rabbitmq"}, 1200),
        *_peers(peer.HUEY, "Huey, Redis", set(), 1200),
    )
}
