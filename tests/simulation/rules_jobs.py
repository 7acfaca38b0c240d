"""Rules for jobs and stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tests.simulation.history import Run
from tests.simulation.index import ENDED, Complaints, Index

#: Every change that a diary may hold; "None" is what does not exist yet.
JOB_STEPS = {
    "PENDING": {"RUNNING", "CANCELLED", "COMPLETED", "SKIPPED"},
    "RUNNING": {"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"},
    "COMPLETED": {"RUNNING", "FAILED", "CANCELLED"},
    "FAILED": {"RUNNING", "COMPLETED", "CANCELLED", "SKIPPED"},
    "CANCELLED": {"RUNNING", "COMPLETED", "FAILED", "SKIPPED"},
    "SKIPPED": {"RUNNING", "COMPLETED", "FAILED", "CANCELLED"},
}
STAGE_STEPS = {
    "PENDING": {"RUNNING", "COMPLETED", "CANCELLED", "SKIPPED"},
    # It has ended with its job, and come back with it, for the retry of what ran of it.
    "RUNNING": {"COMPLETED", "FAILED", "CANCELLED", "SKIPPED", "PENDING"},
    "COMPLETED": {"PENDING", "RUNNING", "FAILED", "CANCELLED"},
    "FAILED": {"PENDING", "RUNNING", "COMPLETED", "CANCELLED", "SKIPPED"},
    "CANCELLED": {"PENDING", "RUNNING", "COMPLETED", "FAILED", "SKIPPED"},
    "SKIPPED": {"PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"},
}
TASK_STEPS = {
    None: {"PENDING", "QUEUED", "FAILED"},
    "PENDING": {"QUEUED", "CANCELLED", "SKIPPED"},
    "QUEUED": {"RUNNING", "PENDING", "CANCELLED", "SKIPPED"},
    "RUNNING": {"RUNNING", "COMPLETED", "FAILED", "CANCELLED", "PENDING", "QUEUED", "SKIPPED"},
    "COMPLETED": {"PENDING", "QUEUED"},
    "FAILED": {"PENDING", "QUEUED", "SKIPPED"},
    "CANCELLED": {"PENDING", "QUEUED", "SKIPPED"},
    "SKIPPED": {"PENDING", "QUEUED"},
}


def accepted_survives(index: Index) -> Complaints:
    """I1: what was accepted is there and ends."""
    ids = {row["job_id"] for row in index.history.jobs}
    for asked in index.history.asked:
        if asked.what == "submit" and asked.answer == "ok" and asked.job_id not in ids:
            yield f"job {asked.job_id} was accepted and is gone"
    for row in index.history.jobs:
        if row["state"] not in ENDED:
            yield f"job {row['job_id']} is still {row['state']} at {index.history.ended:.0f} s"


def stage_totals(index: Index) -> Complaints:
    """I2: a stage and its job end as their tasks say."""
    for stage in index.history.stages:
        job = index.jobs[stage["job"]]
        spawned = stage["spawn"] != "FAILED" or stage["on_error"] == "block"
        fatal = not spawned or (stage["on_error"] == "fail_job" and stage["failed"] > tolerated(stage))
        if job["state"] == "COMPLETED" and (stage["state"] != "COMPLETED" or fatal):
            yield f"job {job['job_id']} is COMPLETED, its stage {stage['number']} is {stage['state']}"
        if stage["state"] == "FAILED" and not fatal:
            yield f"{index.stage_name(stage)} is FAILED and nothing of it has failed"
        if stage["state"] == "COMPLETED" and stage["expected"] != stage["completed"] + stage["failed"]:
            yield f"{index.stage_name(stage)} is COMPLETED with {stage['completed']} of {stage['expected']} tasks"


def tolerated(stage: Mapping[str, Any]) -> int:
    """Return how many tasks of a stage may fail."""
    bound = stage["max_failed"] or "0"
    return int(bound[:-1]) * (stage["expected"] or 0) // 100 if bound.endswith("%") else int(bound)


def stage_order(index: Index) -> Complaints:
    """I3: stages begin and end once per chapter, and none begins before those in front of it are complete."""
    for key, events in index.events.items():
        job_id, done, started = index.jobs[key]["job_id"], set(), set()
        for event in events:
            kind, stage = event["kind"], event["stage"]
            if kind == "job_retried":
                started -= {number for number in started if number not in done}
            elif kind in ("stage_started", "stage_reopened"):
                if stage in started:
                    yield f"stage {stage} of job {job_id} began twice"
                started.add(stage)
                if done != set(range(stage)):
                    yield f"stage {stage} of job {job_id} began when {sorted(done)} were complete"
            elif kind == "stage_completed":
                if stage in done or stage not in started:
                    yield f"stage {stage} of job {job_id} completed twice or without a beginning"
                done.add(stage)
    yield from _processes_in_order(index)


def _processes_in_order(index: Index) -> Complaints:
    begun = {(entry.key, entry.after): entry.at for entry in index.history.diary if entry.kind == "stage"}
    for run in index.history.ledger:
        task = index.task_by_id.get(run.task_id)
        if task is None:
            continue
        before = task["stage"] - 1
        if run.stage > 0 and run.started < begun.get((before, "COMPLETED"), float("inf")):
            yield f"{index.name(task)} ran at {run.started:.3f}, before stage {run.stage - 1} was complete"


def terminal_is_final(index: Index) -> Complaints:
    """I4: every change is one of the tables'; an ended job is left only by a retry, and nothing is added to it."""
    steps = {"job": JOB_STEPS, "stage": STAGE_STEPS, "task": TASK_STEPS}
    for entry in index.history.diary:
        # The lease of what was cancelled is let go of when its worker tells of the end.
        if entry.after != entry.before and entry.after not in steps[entry.kind].get(entry.before, ()):
            yield f"{entry.kind} {entry.key} went from {entry.before} to {entry.after} at {entry.at:.3f}"
    for key, events in index.events.items():
        ended = None
        for event in events:
            kind = event["kind"]
            if ended and kind not in ("job_retried", "file_not_published"):
                yield f"job {index.jobs[key]['job_id']}: {kind} after {ended}"
            if kind in ("job_completed", "job_failed", "job_cancelled"):
                ended = kind
            elif kind == "job_retried":
                if ended not in ("job_failed", "job_cancelled"):
                    yield f"job {index.jobs[key]['job_id']} was retried after {ended}"
                ended = None


def cancel_is_final(index: Index) -> Complaints:
    """I5: nothing is claimed in an ended job; a cancel that was answered has happened."""
    ended: set[object] = set()
    for entry in index.history.diary:
        if entry.kind == "job":
            (ended.add if entry.after in ENDED else ended.discard)(entry.key)
        elif entry.kind == "task" and (entry.before, entry.after) == ("QUEUED", "RUNNING"):
            task = index.tasks[entry.key]
            if index.stages[task["stage"]]["job"] in ended:
                yield f"{index.name(task)} was claimed at {entry.at:.3f}, after its job's end"
    for asked in index.history.asked:
        if asked.what == "cancel" and asked.answer == "ok":
            job = next(row for row in index.history.jobs if row["job_id"] == asked.job_id)
            if "job_cancelled" not in [event["kind"] for event in index.events[job["key"]]]:
                yield f"job {asked.job_id} was answered as cancelled and is not"


def idempotent_submit(index: Index) -> Complaints:
    """I11: one key, one job."""
    answered: dict[str, set[object]] = defaultdict(set)
    for asked in index.history.asked:
        if asked.what == "submit" and asked.answer == "ok" and asked.key:
            answered[asked.key].add(asked.job_id)
    for key, ids in answered.items():
        if len(ids) > 1:
            yield f"key {key} was answered with {len(ids)} jobs"
    submits = [asked for asked in index.history.asked if asked.what == "submit"]
    possible = len({asked.key for asked in submits if asked.key}) + sum(not asked.key for asked in submits)
    if len(index.history.jobs) > possible:
        yield f"{len(index.history.jobs)} jobs of {possible} requests"


def snapshot(index: Index) -> Complaints:
    """I12: a job runs with the catalogue it was accepted with, and with its latest secrets; they go when it ends."""
    jobs = {row["job_id"]: row for row in index.history.jobs}
    for asked in index.history.asked:
        if asked.answer == "ok" and asked.what == "submit":
            tries = [one for one in index.history.asked if one is asked or (asked.key and one.key == asked.key)]
            if not any(jobs[asked.job_id]["revision"] in one.revisions for one in tries):
                yield f"job {asked.job_id} was accepted with a revision that was not in force"
    for run in index.history.ledger:
        job = jobs.get(run.job_id)
        if job is None:
            continue
        if run.revision != job["revision"] or run.edition != index.history.editions[run.revision]:
            yield f"job {run.job_id} ran a task of {run.revision} ({run.edition}), not of {job['revision']}"
        yield from _secret_of(index, run)
    for job in index.history.jobs:
        if (job["sealed"] is not None or job["seal"] is not None) and job["state"] in ENDED:
            yield f"job {job['job_id']} has ended and its secrets are still there"


def _secret_of(index: Index, run: Run) -> Complaints:
    """A retry brings new secrets; what is claimed afterwards gets none of the old ones."""
    task = index.task_by_id[run.task_id]
    lease = index.leases(task).get(run.attempt)
    if index.job_of(task)["secret"] == "[]" or lease is None:
        return
    if not run.token:
        yield f"{index.name(task)} ran attempt {run.attempt} without its secret"
    retries = [
        one for one in index.history.asked
        if one.what == "retry" and one.job_id == run.job_id and one.answer != "refused" and one.begun <= lease[0]
    ]  # fmt: skip
    since = max((one.begun for one in retries if one.answer == "ok" and one.ended <= lease[0]), default=0.0)
    fresh = {one.token for one in retries if one.ended >= since}
    if since and run.token not in fresh:
        yield f"{index.name(task)} ran attempt {run.attempt} with {run.token}; the retry brought {fresh}"
