"""Rules for the order among jobs: a higher priority first, then in turns; in the store and at each worker.

They hold under every fault. A job that had a suspect is left out, because workers are kept for it, and one whose stages
may wait for files of others cannot complain.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

from tests.simulation.index import Complaints, Index
from tests.simulation.rules_tasks import PRIVATE

#: A job's tasks of one priority in one queue.
Line = tuple[object, str, int]


def claimed_in_turns(index: Index) -> Complaints:
    """Between two grants of a job each other job of its priority gets one at most, and those of a lower one none.

    A grant is what a job gets in one transaction: one task if another job of its priority and queue gets none, unless
    the place of that one was kept for a job that could not take it. The first tasks of a new job, which are claimed as
    it is accepted, do not count: an idle controller does not see what another one has just accepted.
    """
    suspects = {one.key for one in index.history.diary if (one.losses or 0) >= index.history.max_losses - 1}
    suspected = {index.stages[index.tasks[key]["stage"]]["job"] for key in suspects}
    excused = suspected | _waiting_for_files(index)
    claims: dict[int, Counter[int]] = defaultdict(Counter)
    for entry in index.history.diary:
        if entry.turn is not None and (entry.before, entry.after) == ("QUEUED", "RUNNING"):
            claims[entry.turn][index.tasks[entry.key]["stage"]] += 1
    changes = {turn: list(some) for turn, some in itertools.groupby(index.history.line, key=lambda change: change[0])}
    lines: dict[int, Line] = {}
    waiting: set[int] = set()
    passed: dict[Line, Counter[Line]] = {}
    for turn in sorted({*claims, *changes}):
        before = {lines[stage] for stage in waiting}
        new = {index.stages[stage]["job"] for _, stage, *_ in changes.get(turn, ()) if stage not in lines}
        for _, stage, waits, queue, priority in changes.get(turn, ()):
            lines[stage] = index.stages[stage]["job"], queue, priority
            (waiting.add if waits else waiting.discard)(stage)
        given: Counter[Line] = Counter()
        for stage, count in claims[turn].items():
            given[lines[stage]] += count
        away = excused | {job for job, _, _ in given}
        still = {lines[stage] for stage in waiting if lines[stage] in before and lines[stage][0] not in away}
        most = sum(given.values()) if any(line[0] in excused for line in before) else 1
        passed = {line: passed.get(line, Counter()) for line in still}
        for line, (other, count) in itertools.product(still, given.items()):
            if other[0] not in suspected | new and other[1] == line[1] and other[2] <= line[2]:
                passed[line][other] += 1
                if other[2] < line[2] or passed[line][other] > 1 or count > most:
                    yield (
                        f"{_name(index, other)} was given {count} tasks in transaction {turn}, grant"
                        f" {passed[line][other]} since {_name(index, line)} waits"
                    )


def started_in_turns(index: Index) -> Complaints:
    """While an attempt waits at a worker, each other job of its priority gets one slot, those of a lower one none."""
    for taken in index.history.taken.values():
        for number, one in enumerate(taken):
            passed: Counter[str] = Counter()
            for other in reversed(taken[one.place : number]):
                if (other.job_id, other.queue, other.priority) == (one.job_id, one.queue, one.priority):
                    break
                if other.queue == one.queue and other.priority <= one.priority:
                    passed[other.job_id] += 1
                    if other.priority < one.priority or passed[other.job_id] > 1:
                        yield f"{other} started before {one}, which waited at the same worker"


def _waiting_for_files(index: Index) -> set[object]:
    """Return the jobs in which a stage follows one with private files."""
    left = {(stage["job"], stage["place"]) for stage in index.history.stages if stage["task_class"] == PRIVATE}
    return {
        stage["job"] for stage in index.history.stages for job, place in left
        if stage["job"] == job and stage["place"] > place
    }  # fmt: skip


def _name(index: Index, line: Line) -> str:
    return f"job {index.jobs[line[0]]['job_id']} (queue {line[1]}, priority {line[2]})"
