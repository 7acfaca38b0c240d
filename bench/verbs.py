"""The verbs bench: one call that does something to all tasks of a stage, a hundred thousand of them in line.

The tasks lie in a stage that has begun and of which one runs (`max_parallel: 1`), in a job that is paused: nothing
moves but what the calls do. Each is timed by its client, from the request until the answer: it comes after the commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.contestant import VERBS
from bench.echelon import HELD, Shape, running
from bench.records import Record
from bench.rest import Rest
from bench.session import Session
from tests.system.process import until

#: What is measured, in this order: figure -> (path within the job, query). All but the first task of the stage are
#: meant, for that one runs; then the job as a whole.
CALLS = {
    "pause": ("/stages/0/pause", "?index=1-{last}"),
    "resume": ("/stages/0/resume", "?index=1-{last}"),
    "cancel": ("/stages/0/cancel", "?index=1-{last}"),
    "retry": ("/stages/0/retry", "?state=CANCELLED"),
    "skip": ("/stages/0/skip", "?index=1-{last}"),
    "retry_all": ("/stages/0/retry", "?state=SKIPPED"),
    "cancel_job": ("/cancel", ""),
    "retry_job": ("/retry", ""),
    "skip_job": ("/skip", ""),
}
#: These are counted with the task that runs, and some with the one of the stage behind.
_WHOLE = ("cancel_job", "retry_job", "skip_job")


def visit(session: Session, shape: Shape, round_: int, size: int) -> None:
    """Measure every verb on so many tasks."""
    with running(session.ground, session.ground.fresh_folder(f"verbs-{shape.name}"), shape) as echelon:
        echelon.fan_out(200)
        figures = dict(_calls(echelon.rest, size))
    session.keep(Record(VERBS, shape.name, size, round_, figures))


def _calls(rest: Rest, size: int) -> Iterator[tuple[str, float]]:
    """Yield the seconds of every call; each has to change all that it is meant for."""
    job_id = rest.submit(HELD)
    job = f"/jobs/{job_id}"
    begun = time.perf_counter()
    added = rest.post(f"{job}/stages/0/tasks", [{}] * (size + 1))
    yield "add", time.perf_counter() - begun
    assert len(added["task_ids"]) == size + 1
    rest.post(f"{job}/stages/0/resume")
    until(lambda: rest.job(job_id)["stages"][0]["counts"]["RUNNING"] == 1, "the first task runs")
    rest.post(f"{job}/pause")
    for figure, (path, query) in CALLS.items():
        begun = time.perf_counter()
        answer = rest.post(job + path + query.format(last=size))
        yield figure, time.perf_counter() - begun
        changed = answer["changed"]["tasks"]
        if changed < size or (figure not in _WHOLE and changed != size):
            raise RuntimeError(f"{figure} has changed {changed} of {size} tasks: {answer['unchanged']}")
