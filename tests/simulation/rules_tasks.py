"""Rules for tasks, their attempts and their processes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from echelon.shared.lease import RETURN_TIME, STATUS_FRESH_FOR
from tests.simulation.history import Entry, Row, Run
from tests.simulation.index import ENDED, Complaints, Index

#: Seconds that clocks, wires and turns of a loop may cost.
SLACK = 1.5
#: A task kept for lack of a controller ends within so many seconds of the last look at the status files once one has
#: returned: a lease and the time for the way back, less the age that a status may have.
KEPT = 15.0 + RETURN_TIME - STATUS_FRESH_FOR
#: A worker is awake enough to end a task in time if it did not stand still for so long before.
AWAKE = 7.0
#: The task class whose tasks run in folders of their own, each leaving a file that is named as the task.
PRIVATE = "private"
#: Within so many seconds, in the calm, returned orders and the attempts of a dead life run again.
PROMPT = 2.0
#: Within so many, the attempts of a life that dies when the last outage has been over for `SETTLED` seconds.
GONE, SETTLED = 22.0, 10.0


def counted_once(index: Index) -> Complaints:
    """I2: each attempt ends exactly once and in order; what counts is what the current attempt did."""
    for task in index.history.tasks:
        rows = index.attempts[task["key"]]
        yield from ended_in_order(index, task)
        completed = [row["attempt"] for row in rows if row["outcome"] == "completed"]
        wanted = [task["attempt"]] if task["state"] == "COMPLETED" else []
        if completed != wanted:
            yield f"{index.name(task)} is {task['state']}, its attempts {completed} were counted as completed"
        if task["state"] == "COMPLETED":
            yield from _counted_run(index, task, rows[-1:])


def ended_in_order(index: Index, task: Row) -> Complaints:
    """Each attempt ends exactly once and in order; a claim that ended without a start is none."""
    numbers = [row["attempt"] - row["unstarted"] for row in index.attempts[task["key"]]]
    count = task["attempt"] - task["unstarted"]
    if task["state"] != "RUNNING" and numbers != list(range(1, count + 1)):
        yield f"{index.name(task)} had {count} attempts; those that ended: {numbers}"


def numbered(index: Index) -> Complaints:
    """Attempts are numbered from 1 without a gap, as their processes are told: by starts, not by claims.

    A start that fails for want of its command is an attempt without a process. A process that a worker starts after its
    lease may be no attempt. One that is ended in its first moment is an attempt of which the ledger may know nothing.
    """
    silent = {"not_started", "lost", "stopped", "interrupted"} if index.history.late_ledger else {"not_started"}
    for task in index.history.tasks:
        rows = {row["attempt"]: row["outcome"] for row in index.attempts[task["key"]]}
        numbers = {claim: -1 for claim, outcome in rows.items() if outcome in silent}
        for claim, (_, until) in index.leases(task).items():
            runs = index.runs.get((task["task_id"], claim), ())
            for run in runs:
                if run.started < until or claim in rows:
                    numbers[claim] = run.number
        told = [number for _, number in sorted(numbers.items())]
        if any(number not in (-1, place) for place, number in enumerate(told, 1)):
            yield f"{index.name(task)} had processes with the numbers {told} (-1: none that is known)"


def within_slots(index: Index) -> Complaints:
    """At no moment more tasks of a worker are RUNNING for people than it has slots."""
    running: dict[int, set[int]] = defaultdict(set)
    slots = {key: index.history.lives[life].slots for key, life in index.history.workers.items()}
    # All lines of one transaction have the same time: what counts is what stands when it is over.
    for at, entries in itertools.groupby(index.history.diary, key=lambda entry: entry.at):
        for entry in entries:
            if entry.kind != "task" or entry.worker is None:
                continue
            for here in running.values():
                here.discard(entry.key)
            if entry.after == "RUNNING" and entry.started_at is not None:
                running[entry.worker].add(entry.key)
        for worker, here in running.items():
            if len(here) > slots[worker]:
                yield f"{len(here)} tasks were RUNNING at {at:.3f} on worker {worker}, which has {slots[worker]} slots"


def _counted_run(index: Index, task: Row, rows: list[Row]) -> Complaints:
    life = index.history.workers.get(rows[0]["worker"]) if rows else None
    told = f"{task['task_id']}/{task['attempt']}/{life}"
    if task["result"] != told:
        yield f"{index.name(task)} has the result {task['result']}, not that of its attempt {told}"
    runs = index.runs[task["task_id"], task["attempt"]]
    if not any(run.whole and run.life == life for run in runs):
        yield f"{index.name(task)} is COMPLETED, but no process of attempt {task['attempt']} has ended well"


def single_owner(index: Index) -> Complaints:
    """I6: an attempt starts at most once, under a lease that its worker minds, and never together with the next."""
    for (task_id, attempt), runs in index.runs.items():
        task = index.task_by_id.get(task_id)
        if task is None:
            yield f"a process ran for the unknown task {task_id}"
            continue
        if len(runs) > 1:
            yield f"{index.name(task)}, attempt {attempt}, was started {len(runs)} times"
        lease = index.leases(task).get(attempt)
        if lease is None:
            yield f"{index.name(task)}, attempt {attempt}, was started without a claim"
            continue
        for run in runs:
            yield from _check_lease(index, task, run, lease)


def _check_lease(index: Index, task: Row, run: Run, lease: tuple[float, float]) -> Complaints:
    """A worker that is awake ends its task before the lease does."""
    claimed, until = lease
    if run.started < claimed:
        yield f"{index.name(task)}, attempt {run.attempt}, was started before it was claimed"
    life = index.history.lives[run.life]
    # However long its worker stood still before: the lease that a worker keeps for lack of a controller counts as well.
    last_start = max([until, *(at + KEPT for at in life.kept if at < run.started)])
    if run.started > last_start:
        yield f"{index.name(task)}, attempt {run.attempt}, was started {run.started - last_start:.3f} s after its lease"
    ended = index.history.ended if run.ended is None else run.ended
    if life.died is not None and life.died < until:
        return
    last = min(ended, life.died if life.died is not None else ended)
    excused = any(begun < last and over > until - AWAKE for begun, over in life.pauses)
    # Without a controller a worker keeps its tasks: that is no loss, and a returning controller waits for a lease.
    stored, until = until, max([until, *(at + KEPT for at in life.kept if at < last)])
    if last > until + SLACK and not excused:
        yield f"{index.name(task)}, attempt {run.attempt}, ran until {last:.3f}; its lease ended at {until:.3f}"
    elif last > stored + SLACK and not excused:
        yield from _kept_alone(index, task, run, last)


def _kept_alone(index: Index, task: Row, run: Run, last: float) -> Complaints:
    """A task that a worker keeps for lack of a controller is not taken away by a returning one before it has ended."""
    lost = any(row["attempt"] == run.attempt and row["outcome"] == "lost" for row in index.attempts[task["key"]])
    again = min((one.started for one in index.runs.get((run.task_id, run.attempt + 1), ())), default=last)
    if lost and again < last - SLACK:
        yield f"{index.name(task)}: attempt {run.attempt} was kept until {last:.3f}, the next began at {again:.3f}"


def never_beside(index: Index) -> Complaints:
    """I6: what came back from a worker has no process any more when the next attempt begins."""
    for task in index.history.tasks:
        for row in index.attempts[task["key"]]:
            if row["outcome"] == "interrupted":
                yield from _find_overlap(index, task, row["attempt"])


def _find_overlap(index: Index, task: Row, attempt: int) -> Complaints:
    later = [run.started for run in index.runs.get((task["task_id"], attempt + 1), ())]
    for run in index.runs.get((task["task_id"], attempt), ()):
        ended = index.history.ended if run.ended is None else run.ended
        if later and min(later) < ended:
            yield (
                f"{index.name(task)}: attempt {attempt} was handed back and ran until {ended:.3f}, the next began at"
                f" {min(later):.3f}"
            )


def fan_out_exact(index: Index) -> Complaints:
    """I7: the tasks of a stage are the items of the counted spawn.json, each once."""
    by_stage: dict[object, dict[int, Row]] = defaultdict(dict)
    for task in index.history.tasks:
        by_stage[task["stage"]][task["idx"]] = task
    for stage in index.history.stages:
        tasks = by_stage[stage["key"]]
        spawn = tasks.pop(-1, None)
        if sorted(tasks) != list(range(len(tasks))):
            yield f"{index.stage_name(stage)} has the indexes {sorted(tasks)}"
        if spawn is not None:
            yield from _compare_items(index, stage, spawn, tasks)
        elif len(tasks) != 1:
            yield f"{index.stage_name(stage)} has {len(tasks)} tasks"


def _compare_items(index: Index, stage: Row, spawn: Row, tasks: dict[int, Row]) -> Complaints:
    if spawn["state"] != "COMPLETED":
        if tasks:
            yield f"{index.stage_name(stage)} has {len(tasks)} tasks, its spawn task is {spawn['state']}"
        return
    runs = index.runs[spawn["task_id"], spawn["attempt"]]
    count = next((run.spawned for run in runs if run.whole), None)
    if stage["state"] == "COMPLETED" and count != len(tasks):
        yield f"{index.stage_name(stage)} has {len(tasks)} tasks for {count} items"
    for number, task in tasks.items():
        if task["input"] and f'"{spawn["attempt"]}.{number}"' not in task["input"]:
            yield f"{index.name(task)} has the input {task['input']} of another attempt than {spawn['attempt']}"


def outputs(index: Index) -> Complaints:
    """I8: of a task with a folder of its own the files of the attempt that counts are visible, and no others."""
    shown = {path.rsplit("/", 1)[-1]: content for path, content in index.history.files.items()}
    for task in index.history.tasks:
        if task["task_class"] == PRIVATE and task["state"] == "COMPLETED" and task["task_id"] not in shown:
            yield f"{index.name(task)} is COMPLETED and shows nothing"
    for task_id, content in shown.items():
        task = index.task_by_id.get(task_id)
        if task is None:
            continue
        if task["state"] != "COMPLETED":
            yield f"{index.name(task)} shows {content!r} and is {task['state']}"
        elif content != f"{task['attempt']} done":
            yield f"{index.name(task)} shows {content!r}, its attempt {task['attempt']} counts"


def files_in_time(index: Index) -> Complaints:
    """A task finds what the stages in front of it have left in folders of their own."""
    places = {stage["key"]: stage["place"] for stage in index.history.stages}
    left: dict[object, list[tuple[int, float, Row]]] = defaultdict(list)
    for task in index.history.tasks:
        if task["task_class"] == PRIVATE and task["state"] == "COMPLETED":
            at = next(entry.at for entry in index.diary[task["key"]] if entry.after == "COMPLETED")
            left[index.stages[task["stage"]]["job"]].append((places[task["stage"]], at, task))
    for run in index.history.ledger:
        task = index.task_by_id.get(run.task_id)
        if task is None or run.found is None or run.attempt not in (leases := index.leases(task)):
            continue
        claimed, _ = leases[run.attempt]
        for place, at, earlier in left[index.stages[task["stage"]]["job"]]:
            if place < places[task["stage"]] and at < claimed and earlier["task_id"] not in run.found:
                yield f"{index.name(task)}, attempt {run.attempt}, was started without files of {index.name(earlier)}"


def budgets(index: Index) -> Complaints:
    """Retries are tried as often as they are allowed, and a task takes down no more workers than that."""
    for task in index.history.tasks:
        limit = index.history.retry_limits.get(task["task_class"], 0)
        if task["failures"] > limit + 1:
            yield f"{index.name(task)} failed {task['failures']} times, {limit} retries are allowed"
        if task["losses"] > index.history.max_losses:
            yield f"{index.name(task)} took down {task['losses']} workers"


def suspects_alone(index: Index) -> Complaints:
    """An attempt that may be a task's last shares its worker with no other, so that no neighbour takes it down."""
    suspected = {entry.seq for entry in claims_of_suspects(index)}
    #: Worker -> task -> whether it is one loss from its end.
    running: dict[object, dict[int, bool]] = defaultdict(dict)
    for entry in index.history.diary:
        if entry.kind != "task":
            continue
        if entry.before == "RUNNING" and entry.after != "RUNNING":
            running[entry.worker].pop(entry.key, None)
        elif entry.before != "RUNNING" and entry.after == "RUNNING":
            here = running[entry.worker]
            here[entry.key] = entry.seq in suspected
            if len(here) > 1 and any(here.values()):
                names = ", ".join(index.name(index.tasks[key]) for key in here)
                yield f"{names} shared a worker at {entry.at:.3f}; for one of them it was the last"


def claims_of_suspects(index: Index) -> Iterator[Entry]:
    """Yield the claims of tasks that are one loss from their end."""
    losses: dict[object, int] = defaultdict(int)
    lost = {(row["task"], row["attempt"]) for row in index.history.attempts if row["outcome"] == "lost"}
    for entry in index.history.diary:
        if entry.kind != "task":
            continue
        if entry.before == "RUNNING" and entry.after != "RUNNING":
            losses[entry.key] += (entry.key, entry.attempt) in lost
        elif entry.before in ENDED and entry.after not in ENDED:
            losses[entry.key] = 0
        elif entry.before != "RUNNING" and entry.after == "RUNNING" and _is_suspect(index, losses[entry.key]):
            yield entry


def _is_suspect(index: Index, losses: int) -> bool:
    return losses >= max(1, index.history.max_losses - 1)


def max_parallel(index: Index) -> Complaints:
    """No stage ever runs more of its tasks than it may."""
    running: dict[object, set[object]] = defaultdict(set)
    for entry in index.history.diary:
        if entry.kind != "task" or index.tasks[entry.key]["idx"] == -1:
            continue
        stage = index.stages[index.tasks[entry.key]["stage"]]
        here = running[stage["key"]]
        (here.add if entry.after == "RUNNING" else here.discard)(entry.key)
        if stage["max_parallel"] is not None and len(here) > stage["max_parallel"]:
            yield f"{index.stage_name(stage)} ran {len(here)} tasks at {entry.at:.3f}"


def prompt(index: Index) -> Complaints:
    """In the calm: what came back undelivered, or was held by a dead life, is free again in time."""
    history = index.history
    for at, task_id, attempt in history.refused:
        task = index.task_by_id[task_id]
        if history.calm_from < at < history.ended - PROMPT and not _had_ended(index, task, attempt, at + PROMPT):
            yield f"{index.name(task)}, attempt {attempt}: its order came back at {at:.3f}, and it was kept"
    keys = {life: key for key, life in history.workers.items()}
    gone = [(one.died, life, GONE) for life, one in history.lives.items() if one.died is not None]
    gone = [one for one in gone if history.calm_from + SETTLED < one[0] < history.ended - GONE]
    for at, life, within in [*((at, life, PROMPT) for at, life in history.buried), *gone]:
        for entry in history.diary:
            if entry.kind != "task" or entry.after != "RUNNING" or entry.worker != keys.get(life) or entry.at > at:
                continue
            task = index.tasks[entry.key]
            if entry.attempt is not None and not _had_ended(index, task, entry.attempt, at + within):
                yield f"{index.name(task)}, attempt {entry.attempt}, was kept by {life}, dead at {at:.3f}"


def _had_ended(index: Index, task: Row, attempt: int, until: float) -> bool:
    """Tell whether an attempt had ended in the store by some moment."""
    return any(
        entry.at <= until and entry.before == "RUNNING" and entry.after != "RUNNING" and entry.attempt == attempt
        for entry in index.diary[task["key"]]
    )
