"""The verbs bench: single calls that change all tasks of a stage, up to a hundred thousand.

The stage has begun and one of its tasks runs (`max_parallel: 1`); its job is paused, so only the calls change anything.
The client measures each call from the request to the answer, which comes after the commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.contestant import VERBS
from bench.echelon import HELD, Shape, run_echelon
from bench.records import Record
from bench.rest import Rest
from bench.session import Session
from tests.system.process import until

#: The measured calls in their order: figure -> (path within the job, query). First all tasks of the stage except the
#: first, which runs; then the job as a whole.
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
#: Their counts include the running task, and some also the task of the later stage.
_WHOLE = ("cancel_job", "retry_job", "skip_job")


def measure_verbs(session: Session, shape: Shape, round_: int, size: int) -> None:
    """Measure every verb on `size` tasks."""
    with run_echelon(session.resources, session.resources.make_folder(f"verbs-{shape.name}"), shape) as echelon:
        echelon.run_fan_out(200)
        figures = dict(_time_calls(echelon.rest, size))
    session.keep_record(Record(VERBS, shape.name, size, round_, figures))


def _time_calls(rest: Rest, size: int) -> Iterator[tuple[str, float]]:
    """Yield the seconds of every call; each has to change all of its tasks."""
    job_id = rest.submit_job(HELD)
    job = f"/jobs/{job_id}"
    begun = time.perf_counter()
    added = rest.post(f"{job}/stages/0/tasks", [{}] * (size + 1))
    yield "add", time.perf_counter() - begun
    assert len(added["task_ids"]) == size + 1
    rest.post(f"{job}/stages/0/resume")
    until(lambda: rest.get_job(job_id)["stages"][0]["counts"]["RUNNING"] == 1, "the first task runs")
    rest.post(f"{job}/pause")
    for figure, (path, query) in CALLS.items():
        begun = time.perf_counter()
        answer = rest.post(job + path + query.format(last=size))
        yield figure, time.perf_counter() - begun
        changed = answer["changed"]["tasks"]
        if changed < size or (figure not in _WHOLE and changed != size):
            raise RuntimeError(f"{figure} changed {changed} of {size} tasks: {answer['unchanged']}")
