"""The promises of docs/reliability.md, each as a function from a history to what breaks it. Pure.

It reads records alone (`history`), so that a run of real processes can be judged by the same words. I9 and I10 need
real processes and a real interface; they are not judged here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.simulation.history import Entry, History, Row, Run

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"})
#: Every change that a diary may hold; "None" is what does not exist yet.
JOB_STEPS = {
    "PENDING": {"RUNNING", "CANCELLED", "COMPLETED"},
    "RUNNING": {"COMPLETED", "FAILED", "CANCELLED"},
    "FAILED": {"RUNNING", "COMPLETED"},
    "CANCELLED": {"RUNNING", "COMPLETED"},
}
STAGE_STEPS = {
    "PENDING": {"RUNNING", "COMPLETED", "CANCELLED"},
    "RUNNING": {"COMPLETED", "FAILED", "CANCELLED"},
    "FAILED": {"RUNNING", "COMPLETED"},
    "CANCELLED": {"PENDING", "RUNNING", "COMPLETED"},
}
TASK_STEPS = {
    None: {"PENDING", "QUEUED", "FAILED"},
    "PENDING": {"QUEUED", "CANCELLED"},
    "QUEUED": {"RUNNING", "CANCELLED"},
    "RUNNING": {"RUNNING", "COMPLETED", "FAILED", "CANCELLED", "PENDING", "QUEUED"},
    "FAILED": {"PENDING", "QUEUED"},
    "CANCELLED": {"PENDING", "QUEUED"},
}
#: Seconds that clocks, wires and turns of a loop may cost.
SLACK = 1.5
#: A task that is kept for want of a controller ends within so many seconds of the last look, when one has come.
KEPT = 6.0
#: A worker is awake enough to end a task in time if it did not stand still for so long before.
AWAKE = 7.0
#: An order that nobody took, and the attempts of a buried life, run again within so many seconds of the calm.
PROMPT = 2.0

Complaints = Iterator[str]
Rule = Callable[["Index"], Complaints]


@dataclass
class Index:
    """A history with its rows at hand."""

    history: History
    jobs: dict[object, Row] = field(default_factory=dict)
    stages: dict[object, Row] = field(default_factory=dict)
    tasks: dict[object, Row] = field(default_factory=dict)
    task_by_id: dict[object, Row] = field(default_factory=dict)
    attempts: dict[object, list[Row]] = field(default_factory=lambda: defaultdict(list))
    events: dict[object, list[Row]] = field(default_factory=lambda: defaultdict(list))
    #: (task id, attempt) -> its processes.
    runs: dict[tuple[str, int], list[Run]] = field(default_factory=lambda: defaultdict(list))
    #: Key of a task -> its lines of the diary.
    diary: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        history = self.history
        self.jobs = {row["key"]: row for row in history.jobs}
        self.stages = {row["key"]: row for row in history.stages}
        self.tasks = {row["key"]: row for row in history.tasks}
        self.task_by_id = {row["task_id"]: row for row in history.tasks}
        for row in sorted(history.attempts, key=lambda row: (row["job"], row["number"])):
            self.attempts[row["task"]].append(row)
        for row in sorted(history.events, key=lambda row: (row["job"], row["number"])):
            self.events[row["job"]].append(row)
        for run in history.ledger:
            self.runs[run.task_id, run.attempt].append(run)
        for entry in history.diary:
            if entry.kind == "task":
                self.diary[entry.key].append(entry)

    def job_of(self, task: Row) -> Row:
        return self.jobs[self.stages[task["stage"]]["job"]]

    def leases(self, task: Row) -> dict[int, tuple[float, float]]:
        """Return attempt -> (claimed at, latest moment to which its lease was ever extended)."""
        found: dict[int, tuple[float, float]] = {}
        for entry in self.diary[int(str(task["key"]))]:
            if entry.after == "RUNNING" and entry.attempt is not None and entry.lease_until is not None:
                begun, until = found.get(entry.attempt, (entry.at, entry.lease_until))
                found[entry.attempt] = begun, max(until, entry.lease_until)
        return found


def check(history: History) -> list[str]:
    """Return what breaks the promises, each with the number of its rule."""
    index = Index(history)
    return [f"{name}: {complaint}" for name, rule in RULES.items() for complaint in rule(index)]


def accepted_survives(index: Index) -> Complaints:
    ids = {row["job_id"] for row in index.history.jobs}
    for asked in index.history.asked:
        if asked.what == "submit" and asked.answer == "ok" and asked.job_id not in ids:
            yield f"job {asked.job_id} was accepted and is gone"
    for row in index.history.jobs:
        if row["state"] not in ENDED:
            yield f"job {row['job_id']} is still {row['state']} at {index.history.ended:.0f} s"


def counted_once(index: Index) -> Complaints:
    """I2: each attempt ends exactly once and in order; what counts is what the current attempt did."""
    for task in index.history.tasks:
        rows = index.attempts[task["key"]]
        numbers = [row["attempt"] for row in rows]
        if task["state"] != "RUNNING" and numbers != list(range(1, int(str(task["attempt"])) + 1)):
            yield f"{_name(index, task)} had {task['attempt']} attempts; those that ended: {numbers}"
        completed = [row["attempt"] for row in rows if row["outcome"] == "completed"]
        wanted = [task["attempt"]] if task["state"] == "COMPLETED" else []
        if completed != wanted:
            yield f"{_name(index, task)} is {task['state']}, its attempts {completed} were counted as completed"
        if task["state"] == "COMPLETED":
            yield from _counted_run(index, task, rows[-1:])
    yield from _job_states(index)


def _counted_run(index: Index, task: Row, rows: list[Row]) -> Complaints:
    life = index.history.workers.get(int(str(rows[0]["worker"]))) if rows else None
    told = f"{task['task_id']}/{task['attempt']}/{life}"
    if task["result"] != told:
        yield f"{_name(index, task)} has the result {task['result']}, not that of its attempt {told}"
    runs = index.runs[str(task["task_id"]), int(str(task["attempt"]))]
    if not any(run.whole and run.life == life for run in runs):
        yield f"{_name(index, task)} is COMPLETED, but no process of attempt {task['attempt']} has ended well"


def _job_states(index: Index) -> Complaints:
    for stage in index.history.stages:
        job = index.jobs[stage["job"]]
        failures = int(str(stage["failed"])) + (stage["spawn"] == "FAILED")
        fatal = stage["on_error"] == "fail_job" and failures > 0
        if job["state"] == "COMPLETED" and (stage["state"] != "COMPLETED" or fatal):
            yield f"job {job['job_id']} is COMPLETED, its stage {stage['number']} is {stage['state']}"
        if stage["state"] == "FAILED" and not fatal:
            yield f"stage {stage['number']} of job {job['job_id']} is FAILED and nothing of it has failed"
        if stage["state"] == "COMPLETED" and stage["expected"] != stage["completed"] + stage["failed"]:  # type: ignore[operator]
            yield f"stage {stage['number']} of job {job['job_id']} is COMPLETED with {stage['completed']} of {stage['expected']}"


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
                if done != set(range(int(str(stage)))):
                    yield f"stage {stage} of job {job_id} began when {sorted(done)} were complete"
            elif kind == "stage_completed":
                if stage in done or stage not in started:
                    yield f"stage {stage} of job {job_id} completed twice or without a beginning"
                done.add(stage)
    yield from _processes_in_order(index)


def _processes_in_order(index: Index) -> Complaints:
    begun = {
        (entry.key, entry.after): entry.at for entry in index.history.diary if entry.kind == "stage"
    }
    for run in index.history.ledger:
        task = index.task_by_id.get(run.task_id)
        if task is None:
            continue
        before = int(str(task["stage"])) - 1
        if run.stage > 0 and run.started < begun.get((before, "COMPLETED"), float("inf")):
            yield f"{_name(index, task)} ran at {run.started:.3f}, before stage {run.stage - 1} was complete"


def terminal_is_final(index: Index) -> Complaints:
    """I4: every change is one of the tables'; an ended job is left only by a retry, and nothing is added to it."""
    steps = {"job": JOB_STEPS, "stage": STAGE_STEPS, "task": TASK_STEPS}
    for entry in index.history.diary:
        if entry.after not in steps[entry.kind].get(entry.before, ()):  # type: ignore[call-overload]
            yield f"{entry.kind} {entry.key} went from {entry.before} to {entry.after} at {entry.at:.3f}"
    for key, events in index.events.items():
        ended = None
        for event in events:
            kind = str(event["kind"])
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
                yield f"{_name(index, task)} was claimed at {entry.at:.3f}, after its job's end"
    for asked in index.history.asked:
        if asked.what == "cancel" and asked.answer == "ok":
            job = next(row for row in index.history.jobs if row["job_id"] == asked.job_id)
            if "job_cancelled" not in [event["kind"] for event in index.events[job["key"]]]:
                yield f"job {asked.job_id} was answered as cancelled and is not"


def single_owner(index: Index) -> Complaints:
    """I6: an attempt starts at most once, under a lease that its worker minds, and never together with the next."""
    for (task_id, attempt), runs in index.runs.items():
        task = index.task_by_id.get(task_id)
        if task is None:
            yield f"a process ran for the unknown task {task_id}"
            continue
        if len(runs) > 1:
            yield f"{_name(index, task)}, attempt {attempt}, was started {len(runs)} times"
        lease = index.leases(task).get(attempt)
        if lease is None:
            yield f"{_name(index, task)}, attempt {attempt}, was started without a claim"
            continue
        for run in runs:
            yield from _minded(index, task, run, lease)


def _minded(index: Index, task: Row, run: Run, lease: tuple[float, float]) -> Complaints:
    """A worker that is awake ends its task before the lease does."""
    claimed, until = lease
    if run.started < claimed:
        yield f"{_name(index, task)}, attempt {run.attempt}, was started before it was claimed"
    life = index.history.lives[run.life]
    ended = index.history.ended if run.ended is None else run.ended
    if life.died is not None and life.died < until:
        return
    last = min(ended, life.died if life.died is not None else ended)
    excused = any(begun < last and over > until - AWAKE for begun, over in life.pauses)
    # When nobody can take tasks away, a worker goes on with them: that is no loss, and whoever comes waits for a lease.
    until = max([until, *(at + KEPT for at in life.kept if at < last)])
    if last > until + SLACK and not excused:
        yield f"{_name(index, task)}, attempt {run.attempt}, ran until {last:.3f}; its lease ended at {until:.3f}"


def fan_out_exact(index: Index) -> Complaints:
    """I7: the tasks of a stage are the items of the counted spawn.json, each once."""
    by_stage: dict[object, list[Row]] = defaultdict(list)
    for task in index.history.tasks:
        by_stage[task["stage"]].append(task)
    for stage in index.history.stages:
        tasks = sorted((task for task in by_stage[stage["key"]] if task["idx"] != -1), key=lambda task: int(str(task["idx"])))
        spawn = next((task for task in by_stage[stage["key"]] if task["idx"] == -1), None)
        name = f"stage {stage['number']} of job {index.jobs[stage['job']]['job_id']}"
        if [task["idx"] for task in tasks] != list(range(len(tasks))):
            yield f"{name} has the indexes {[task['idx'] for task in tasks]}"
        if spawn is None:
            if len(tasks) != 1:
                yield f"{name} has {len(tasks)} tasks"
            continue
        if spawn["state"] != "COMPLETED":
            if tasks:
                yield f"{name} has {len(tasks)} tasks, its spawn task is {spawn['state']}"
            continue
        runs = index.runs[str(spawn["task_id"]), int(str(spawn["attempt"]))]
        count = next((run.spawned for run in runs if run.whole), None)
        if stage["state"] == "COMPLETED" and count != len(tasks):
            yield f"{name} has {len(tasks)} tasks for {count} items"
        for task in tasks:
            if task["input"] and f'"{spawn["attempt"]}.{task["idx"]}"' not in str(task["input"]):
                yield f"{_name(index, task)} has the input {task['input']}, not that of item {task['idx']} of attempt {spawn['attempt']}"


def outputs(index: Index) -> Complaints:
    """I8: a visible file of a task with a folder of its own was written by the attempt that counts."""
    for path, content in index.history.files.items():
        task = index.task_by_id.get(path.rsplit("/", 1)[-1])
        if task is None or task["state"] != "COMPLETED":
            continue
        if content != f"{task['attempt']} done":
            yield f"{_name(index, task)} shows {content!r}, its attempt {task['attempt']} counts"


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
        if job["sealed"] is not None and job["state"] in ENDED:
            yield f"job {job['job_id']} has ended and its secrets are still there"


def _secret_of(index: Index, run: Run) -> Complaints:
    """A retry brings new secrets; what is claimed afterwards gets none of the old ones."""
    task = index.task_by_id[run.task_id]
    lease = index.leases(task).get(run.attempt)
    if index.job_of(task)["secret"] == "[]" or lease is None:
        return
    if not run.token:
        yield f"job {run.job_id} ran {run.task_id}/{run.attempt} without its secret"
    retries = [
        one for one in index.history.asked
        if one.what == "retry" and one.job_id == run.job_id and one.answer != "refused" and one.begun <= lease[0]
    ]  # fmt: skip
    since = max((one.begun for one in retries if one.answer == "ok" and one.ended <= lease[0]), default=0.0)
    fresh = {one.token for one in retries if one.ended >= since}
    if since and run.token not in fresh:
        yield f"job {run.job_id} ran {run.task_id}/{run.attempt} with {run.token} after a retry with {sorted(map(str, fresh))}"


def budgets(index: Index) -> Complaints:
    """Retries are tried as often as they are allowed, and a task takes down no more workers than that."""
    for task in index.history.tasks:
        limit = index.history.retry_limits.get(str(task["task_class"]), 0)
        if int(str(task["failures"])) > limit + 1:
            yield f"{_name(index, task)} failed {task['failures']} times, {limit} retries are allowed"
        if int(str(task["losses"])) > index.history.max_losses:
            yield f"{_name(index, task)} took down {task['losses']} workers"


def max_parallel(index: Index) -> Complaints:
    """No stage ever runs more of its tasks than it may."""
    running: dict[object, set[object]] = defaultdict(set)
    for entry in index.history.diary:
        if entry.kind != "task" or index.tasks[entry.key]["idx"] == -1:
            continue
        stage = index.stages[index.tasks[entry.key]["stage"]]
        here = running[stage["key"]]
        (here.add if entry.after == "RUNNING" else here.discard)(entry.key)
        if stage["max_parallel"] is not None and len(here) > int(str(stage["max_parallel"])):
            yield f"stage {stage['number']} of job {index.jobs[stage['job']]['job_id']} ran {len(here)} tasks at {entry.at:.3f}"


def prompt(index: Index) -> Complaints:
    """In the calm: what came back undelivered, and what a buried life held, is free again at once."""
    history = index.history
    for at, task_id, attempt in history.refused:
        task = index.task_by_id[task_id]
        if at > history.calm_from and not _left(index, task, attempt, at + PROMPT) and at + PROMPT < history.ended:
            yield f"{_name(index, task)}, attempt {attempt}: its order came back at {at:.3f}, and it was kept"
    for at, worker in history.buried:
        for task in history.tasks:
            for attempt, (claimed, _) in index.leases(task).items():
                entry = next(one for one in index.diary[int(str(task["key"]))] if one.attempt == attempt)
                mine = history.workers.get(entry.worker or 0) == worker and claimed < at
                if mine and not _left(index, task, attempt, at + PROMPT):
                    yield f"{_name(index, task)}, attempt {attempt}, was kept by {worker}, buried at {at:.3f}"


def _left(index: Index, task: Row, attempt: int, until: float) -> bool:
    """Tell whether an attempt had ended in the store by some moment."""
    return any(
        entry.at <= until and entry.before == "RUNNING" and entry.after != "RUNNING" and entry.attempt == attempt
        for entry in index.diary[int(str(task["key"]))]
    )


def _name(index: Index, task: Row) -> str:
    return f"task {task['idx']} of stage {index.stages[task['stage']]['number']} of job {index.job_of(task)['job_id']}"


RULES: dict[str, Rule] = {
    "I1 accepted survives": accepted_survives,
    "I2 counted once": counted_once,
    "I3 stage order": stage_order,
    "I4 terminal is final": terminal_is_final,
    "I5 cancel is final": cancel_is_final,
    "I6 single owner": single_owner,
    "I7 fan-out exact": fan_out_exact,
    "I8 outputs": outputs,
    "I11 idempotent submit": idempotent_submit,
    "I12 snapshot": snapshot,
    "budgets": budgets,
    "max_parallel": max_parallel,
    "prompt": prompt,
}
