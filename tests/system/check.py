"""Checks after a run of real processes: the checker's rules, the known answers, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from echelon.shared.messages import DEAD
from echelon.worker.runtimes import proc
from tests.simulation.checker import check
from tests.simulation.history import History
from tests.simulation.index import ENDED
from tests.system.cluster import Cluster
from tests.system.people import Followed
from tests.system.process import until


def find_complaints(history: History, jobs: list[Followed]) -> list[str]:
    """Return what breaks a promise, in words."""
    return [*check(history), *known_answers(history, jobs)]


def known_answers(history: History, jobs: list[Followed]) -> Iterator[str]:
    """Compare what came of every job with what had to."""
    rows = {row["job_id"]: row for row in history.jobs}
    stages = defaultdict(list)
    for stage in history.stages:
        stages[stage["job"]].append(stage)
    for job in jobs:
        row = rows.get(job.job_id)
        if row is None or row["state"] not in ENDED:
            continue
        wanted = {job.plan.outcome} | ({"CANCELLED"} if job.cancelled else set())
        if row["state"] not in wanted:
            yield f"answer: job {job.job_id} ({job.plan.type}) is {row['state']}, not {wanted}: {row['error']}"
        for stage in stages[row["key"]]:
            if stage["state"] == "COMPLETED" and stage["spawn"] and stage["expected"] != job.count:
                yield f"answer: stage {stage['number']} of {job.job_id} had {stage['expected']} tasks, not {job.count}"


def left_processes(folder: Path) -> list[str]:
    """Return the processes of tasks that belong to a run in a folder and are still there."""
    mark = os.fsencode(f"TMPDIR={folder}/")
    found = []
    for pid in proc.every_pid():
        environment = proc.environment_of(pid)
        if any(one.startswith(mark) for one in environment) and proc.attempt_in(environment) is not None:
            found.append(f"{pid}: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}")
    return found


def left_messages(cluster: Cluster) -> Iterator[str]:
    """Yield queues that still hold messages after everything has ended."""
    listed = cluster.rabbit.control("-q", "list_queues", "name", "messages_unacknowledged", "messages")
    for line in listed.splitlines()[1:]:
        name, unacked, messages = line.split("\t")
        if name != DEAD and (int(unacked) or int(messages)) and not name.startswith("echelon.v1.orders."):
            yield f"{name} holds {messages} messages, {unacked} of them not acknowledged"


def messages_that_stay(cluster: Cluster, patience: float = 15.0) -> list[str]:
    """Return the queues that still keep a message after some seconds of quiet."""
    found: list[str] = []

    def none_left() -> bool:
        found[:] = left_messages(cluster)
        return not found

    with contextlib.suppress(AssertionError):
        until(none_left, "the queues are empty", patience)
    return found


def count_descriptors(cluster: Cluster) -> dict[str, int]:
    """Return how many files each worker holds open."""
    return {worker.name: len(os.listdir(f"/proc/{worker.pid}/fd")) for worker in cluster.workers if worker.running}
