"""The same jobs for engines that know tasks alone: what a task does, and how it lets the next ones follow.

The tasks of a stage are counted in Redis, one INCR each: the cheapest join there is, and what keeps these engines fast
(their own joins read all results). With `BENCH_RESULTS` an engine keeps the state of every task in its own result
store, so that it can be asked for; without it there is the counter alone. A job is final when Redis says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import redis

from bench import bare

#: (what, name of the job, number in the stage, tasks of the stage): the arguments of the one task that there is.
Call = tuple[str, str, int, int]
Send = Callable[[Sequence[Call]], None]

BROKER = os.environ.get("BENCH_BROKER", "")
REDIS = os.environ.get("BENCH_REDIS", "")
FOLDER = os.environ.get("BENCH_FOLDER", "")
RESULTS = bool(os.environ.get("BENCH_RESULTS"))
#: Seconds after which a job is given up.
_PATIENCE = 900
_store = redis.Redis.from_url(REDIS, socket_timeout=None)


def work(what: str, job: str, number: int, total: int, send: Send) -> None:
    """Be one task."""
    bare.run(bare.CLOCK if what == "clock" else bare.TRUE, place(what, job, number))
    if what == "first":
        send([("middle", job, index, total) for index in range(total)])
    elif what == "middle":
        if _store.incr(f"{job}:done") == total:
            send([("last", job, 0, 1)])
    elif what == "chain" and number + 1 < total:
        send([("chain", job, number + 1, total)])
    else:
        _finish(job)


def place(what: str, job: str, number: int) -> str:
    """Return where a task leaves its output."""
    return f"{FOLDER}/{job}-{what}-{number}"


def _finish(job: str) -> None:
    with _store.pipeline() as pipeline:
        pipeline.set(f"{job}:state", "COMPLETED")
        pipeline.rpush(f"{job}:ended", 1)
        pipeline.execute()


def timed(send: Send, call: Call) -> float:
    """Submit a job by its first task and return the seconds until its stored state is final."""
    begun = time.perf_counter()
    send([call])
    if _store.blpop([f"{call[1]}:ended"], timeout=_PATIENCE) is None:
        raise RuntimeError(f"{call} has not ended")
    return time.perf_counter() - begun


def latency(send: Send, job: str) -> float:
    """Submit one task and return the seconds until its process read the clock."""
    begun = time.time()
    timed(send, ("clock", job, 0, 1))
    return bare.read_clock(place("clock", job, 0)) - begun
