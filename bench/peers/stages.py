"""The same jobs for engines that have only tasks: a task's work, and the start of the next tasks.

Redis counts the tasks of a stage, one INCR each: this is the cheapest join and keeps these engines fast (their own
joins read all results). With `BENCH_RESULTS` an engine also stores the state of every task in its own result store. A
job is final when its state in Redis is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import redis

from bench import bare

#: (kind, name of the job, number in the stage, tasks of the stage): the arguments of the only task.
Call = tuple[str, str, int, int]
Send = Callable[[Sequence[Call]], None]

BROKER = os.environ.get("BENCH_BROKER", "")
REDIS = os.environ.get("BENCH_REDIS", "")
FOLDER = os.environ.get("BENCH_FOLDER", "")
RESULTS = bool(os.environ.get("BENCH_RESULTS"))
#: Seconds to wait for a job.
_PATIENCE = 900
_store = redis.Redis.from_url(REDIS, socket_timeout=None)


def run_task(what: str, job: str, number: int, total: int, send: Send) -> None:
    """Run one task and start those that follow it."""
    bare.run_process(bare.CLOCK if what == "clock" else bare.TRUE, find_place(what, job, number))
    if what == "first":
        send([("middle", job, index, total) for index in range(total)])
    elif what == "middle":
        if _store.incr(f"{job}:done") == total:
            send([("last", job, 0, 1)])
    elif what == "chain" and number + 1 < total:
        send([("chain", job, number + 1, total)])
    else:
        _finish_job(job)


def find_place(what: str, job: str, number: int) -> str:
    """Return the path of a task's output, without its ending."""
    return f"{FOLDER}/{job}-{what}-{number}"


def _finish_job(job: str) -> None:
    with _store.pipeline() as pipeline:
        pipeline.set(f"{job}:state", "COMPLETED")
        pipeline.rpush(f"{job}:ended", 1)
        pipeline.execute()


def time_job(send: Send, call: Call) -> float:
    """Submit a job by its first task and return the seconds until its stored state is final."""
    begun = time.perf_counter()
    send([call])
    if _store.blpop([f"{call[1]}:ended"], timeout=_PATIENCE) is None:
        raise RuntimeError(f"{call} has not ended")
    return time.perf_counter() - begun


def measure_latency(send: Send, job: str) -> float:
    """Submit one task and return the seconds until its process read the clock."""
    begun = time.time()
    time_job(send, ("clock", job, 0, 1))
    return bare.read_clock(find_place("clock", job, 0)) - begun
