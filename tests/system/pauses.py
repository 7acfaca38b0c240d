"""The drill of pauses: a busy worker stands still (SIGSTOP) for longer than its leases, with and without a cancel.

`python -m tests.system.pauses --rounds 200` prints the figures of docs/evidence/reliability.md. When the worker
goes on, the tasks that it held have run elsewhere, or are cancelled: it must start none of them.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from echelon.shared.lease import SHORTEST_LEASE
from tests.system.cluster import Cluster, Program, Shape
from tests.system.drills import Job, pass_by, whole
from tests.system.process import until

#: Short tasks, of which a worker asks for many ahead. Each notes its start.
CATALOGUE = """
tasks:
  list:
    input: {count: {source: parameter, type: integer}}
    exec_command: python3
    exec_args: [-c, 'import json, os, sys;
      json.dump([{}] * int(sys.argv[1]), open(os.environ["ECHELON_SPAWN_FILE"], "w"))', "{count}"]
  brief:
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_INDEX $ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts']
jobs:
  fan:
    input: {count: {source: parameter, type: integer}}
    stages: [{name: Fan, spawn_task: list, task_class: brief}]
"""
SHAPE = Shape(controllers=1, workers=2, slots=4, lease=SHORTEST_LEASE, heartbeat=1.5, diary=False)
#: Tasks of a job, and of how many of them the start is awaited before the worker is stopped.
TASKS, BEFORE = 600, (40, 250)
#: Seconds that a worker stands still: its leases end, and all that it held runs elsewhere.
PAUSE = 6.0
#: Seconds from the stop to the cancel, and from there until the worker goes on: its leases have ended.
CANCEL_AFTER, GOES_ON_AFTER = 0.3, 4.0


@dataclass(frozen=True, slots=True)
class Start:
    """The start of one attempt, as its process noted it."""

    index: int
    attempt: int
    #: Unix time.
    at: float
    #: Names the worker.
    mark: str


@dataclass
class Finding:
    """The findings of some rounds of one kind."""

    rounds: int = 0
    #: Attempts that the worker held when it was stopped and that ran elsewhere; else the round has shown nothing.
    taken_over: int = 0
    #: What must not happen.
    complaints: list[str] = field(default_factory=list)
    #: Of each cancel: seconds from its answer to the last start of a task, before a paused worker goes on.
    late: list[float] = field(default_factory=list)


def read_starts(job: Job) -> list[Start]:
    """Return the starts of a job's tasks so far."""
    path = job.folder / "starts"
    lines = path.read_text().splitlines() if path.exists() else []
    fields = [line.split() for line in lines]
    return [Start(int(one[0]), int(one[1]), float(one[2]), one[3]) for one in fields if len(one) == 4]


def find_stale(starts: list[Start]) -> Iterator[str]:
    """Yield the attempts that started twice, and those that started after a later attempt of their task."""
    by_task: dict[int, list[Start]] = defaultdict(list)
    for start in sorted(starts, key=lambda one: one.at):
        by_task[start.index].append(start)
    for index, ones in by_task.items():
        for before, after in itertools.pairwise(ones):
            if after.attempt <= before.attempt:
                yield (
                    f"task {index}: attempt {after.attempt} started {after.at - before.at:.3f} s after attempt"
                    f" {before.attempt}"
                )


def wake_worker(cluster: Cluster, rng: random.Random, finding: Finding) -> None:
    """Stop a worker in the middle of a job until others have done its work; then it must start none of that."""
    job, worker = _stop_busy_worker(cluster, rng)
    pass_by(PAUSE)
    starts = read_starts(job)
    finding.taken_over += sum(one.attempt > 1 for one in starts)
    os.kill(worker.pid, signal.SIGCONT)
    assert job.finish() == "COMPLETED"
    finding.complaints += find_stale(read_starts(job))


def wake_worker_after_cancel(cluster: Cluster, rng: random.Random, finding: Finding) -> None:
    """Stop a worker in the middle of a job, cancel the job, and let the worker go on: it must start nothing more."""
    job, worker = _stop_busy_worker(cluster, rng)
    pass_by(CANCEL_AFTER)
    cluster.client().cancel_job(job.job_id)
    answered = time.time()
    pass_by(GOES_ON_AFTER)
    finding.late.append(max([0.0, *(one.at - answered for one in read_starts(job))]))
    woken = time.time()
    os.kill(worker.pid, signal.SIGCONT)
    whole(cluster)
    pass_by(1.0)
    late = [one for one in read_starts(job) if one.at > woken]
    finding.complaints += [f"task {one.index} started {one.at - answered:.3f} s after the cancel" for one in late]


def cancel_busy_job(cluster: Cluster, rng: random.Random, finding: Finding) -> None:
    """Cancel a job in the middle of its work while every worker is connected: how late does a task still start?"""
    job = _begin_job(cluster, rng)
    cluster.client().cancel_job(job.job_id)
    answered = time.time()
    pass_by(1.0)
    finding.late.append(max([0.0, *(one.at - answered for one in read_starts(job))]))


def _begin_job(cluster: Cluster, rng: random.Random) -> Job:
    job, enough = Job(cluster, "fan", count=TASKS), rng.randint(*BEFORE)
    until(lambda: len(read_starts(job)) >= enough, f"{enough} tasks of {job.job_id} have started")
    return job


def _stop_busy_worker(cluster: Cluster, rng: random.Random) -> tuple[Job, Program]:
    job, worker = _begin_job(cluster, rng), rng.choice(cluster.workers)
    # Not its session: a process that is just being started by it goes on.
    os.kill(worker.pid, signal.SIGSTOP)
    return job, worker


KINDS = {
    "paused": wake_worker,
    "paused, and cancelled meanwhile": wake_worker_after_cancel,
    "cancelled while all are connected": cancel_busy_job,
}


def drill(cluster: Cluster, rounds: int, *, seed: str, kinds: Iterable[str] = KINDS) -> dict[str, Finding]:
    """Drill so many rounds of each kind."""
    rng = random.Random(seed)
    findings = {kind: Finding() for kind in kinds}
    for number in range(1, rounds + 1):
        for kind, finding in findings.items():
            KINDS[kind](cluster, rng, finding)
            finding.rounds = number
            whole(cluster)
    return findings


@click.command()
@click.option("--rounds", default=40, show_default=True, help="Of each kind.")
@click.option("--seed", default="1", show_default=True)
@click.option("--datastore", type=click.Choice(["postgresql", "sqlite"]), default="postgresql", show_default=True)
def main(rounds: int, seed: str, datastore: str) -> None:
    """Print what each kind of pause has shown; exit with 1 if a worker started what it must not."""
    shape = replace(SHAPE, datastore=datastore)
    with (
        tempfile.TemporaryDirectory(prefix="echelon-pauses-", ignore_cleanup_errors=True) as folder,
        Cluster(Path(folder), CATALOGUE, shape) as cluster,
    ):
        findings = drill(cluster, rounds, seed=seed)
    for kind, found in findings.items():
        shown = {
            "rounds": found.rounds,
            "tasks that others took over": found.taken_over,
            "complaints": found.complaints,
        }
        if found.late:
            shown["starts after the answer to the cancel"] = sum(one > 0.0 for one in found.late)
            shown["the latest of them"] = round(max(found.late), 3)
        print(json.dumps({kind: shown}), flush=True)
    raise SystemExit(any(found.complaints for found in findings.values()))


if __name__ == "__main__":
    main()
