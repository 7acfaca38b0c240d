"""Rules for runs with live control; the rules without live control hold as well."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from tests.simulation import rules_choices, rules_jobs, rules_tasks, rules_turns
from tests.simulation.deeds import Deeds, Held
from tests.simulation.history import Entry, History, Row, Run
from tests.simulation.index import ENDED, Complaints, Index
from tests.simulation.rules_jobs import tolerated

#: Outcomes of attempts that a person has ended, or a job that failed.
BY_HAND = frozenset({"killed", "stopped"})
DONE = frozenset({"COMPLETED", "SKIPPED"})
AS_THEY_ARE: dict[str, Callable[[Index], Complaints]] = {
    "I1 accepted survives": rules_jobs.accepted_survives,
    "I5 cancel is final": rules_jobs.cancel_is_final,
    "I6 single owner": rules_tasks.single_owner,
    "I11 idempotent submit": rules_jobs.idempotent_submit,
    "budgets": rules_tasks.budgets,
    "max_parallel": rules_tasks.max_parallel,
    "numbered": rules_tasks.numbered,
    "within slots": rules_tasks.within_slots,
    "claimed in turns": rules_turns.claimed_in_turns,
    "started in turns": rules_turns.started_in_turns,
}


def check(history: History, deeds: Deeds) -> list[str]:
    """Return what breaks the promises, each with the name of its rule."""
    index = Index(history)
    found = [f"{name}: {complaint}" for name, rule in AS_THEY_ARE.items() for complaint in rule(index)]
    for rule in (
        counted_once,
        stage_order,
        tables,
        alone,
        runs_apart,
        suspects_alone,
        outputs,
        files_in_time,
        ends,
        misfits,
        in_vain,
    ):
        found += [f"{rule.__name__}: {complaint}" for complaint in rule(index)]
    found += [f"paused: {complaint}" for complaint in paused(index, deeds.held, deeds.touched)]
    found += [f"etags: {complaint}" for complaint in rules_choices.etags(deeds.seen)]
    found += [f"chosen: {complaint}" for complaint in rules_choices.chosen(deeds.seen)]
    found += [f"prioritised: {complaint}" for complaint in rules_choices.prioritised(deeds.seen)]
    found += [f"told: {complaint}" for complaint in rules_choices.told(deeds)]
    found += [f"secrets: {complaint}" for complaint in rules_choices.secrets(index, deeds)]
    return found


def counted_once(index: Index) -> Complaints:
    """Each attempt ends exactly once and in order, however often a task is repeated; the last one counts."""
    for task in index.history.tasks:
        rows = index.attempts[task["key"]]
        yield from rules_tasks.ended_in_order(index, task)
        if task["state"] == "COMPLETED" and rows[-1]["outcome"] != "completed":
            yield f"{index.name(task)} is COMPLETED, its last attempt {rows[-1]['outcome']}"


def stage_order(index: Index) -> Complaints:
    """Nothing is claimed in a stage before those of lower order are done, whatever was opened again meanwhile."""
    states = dict.fromkeys(index.stages, "PENDING")
    by_job: dict[object, list[object]] = defaultdict(list)
    for key, stage in index.stages.items():
        by_job[stage["job"]].append(key)
    # A transaction writes its stages after its tasks; all of it happens at one moment.
    for entry in sorted(index.history.diary, key=lambda entry: (entry.at, entry.kind != "stage", entry.seq)):
        if entry.kind == "stage":
            states[entry.key] = entry.after
        if entry.kind != "task" or (entry.before, entry.after) != ("QUEUED", "RUNNING"):
            continue
        task = index.tasks[entry.key]
        stage = index.stages[task["stage"]]
        for key in by_job[stage["job"]]:
            if index.stages[key]["place"] < stage["place"] and states[key] not in DONE:
                yield f"{index.name(task)} was claimed at {entry.at:.3f}, when stage {key} was {states[key]}"


def tables(index: Index) -> Complaints:
    """Every change is one of the tables'."""
    steps = {"job": rules_jobs.JOB_STEPS, "stage": rules_jobs.STAGE_STEPS, "task": rules_jobs.TASK_STEPS}
    for entry in index.history.diary:
        if entry.after != entry.before and entry.after not in steps[entry.kind].get(entry.before, ()):
            yield f"{entry.kind} {entry.key} went from {entry.before} to {entry.after} at {entry.at:.3f}"


def alone(index: Index) -> Complaints:
    """A process ended by a person is gone before its task runs again; a paused worker is excused."""
    ended_by_hand = {
        (index.tasks[row["task"]]["task_id"], row["attempt"])
        for row in index.history.attempts
        if row["outcome"] in BY_HAND
    }
    begun = {key: min(run.started for run in runs) for key, runs in index.runs.items()}
    for run in index.history.ledger:
        life = index.history.lives[run.life]
        again = begun.get((run.task_id, run.attempt + 1))
        if (run.task_id, run.attempt) not in ended_by_hand or again is None or life.pauses:
            continue
        ended = min(one for one in (run.ended, life.died, index.history.ended) if one is not None)
        if again < ended - rules_tasks.SLACK:
            task = index.task_by_id[run.task_id]
            yield f"{index.name(task)}: attempt {run.attempt} ended at {ended:.3f}, the next began at {again:.3f}"


def runs_apart(index: Index) -> Complaints:
    """The tasks of a stage's next run begin when the processes of the last one are gone; a paused worker is excused."""
    by_stage: dict[object, list[tuple[int, Run]]] = defaultdict(list)
    for run in index.history.ledger:
        task = index.task_by_id[run.task_id]
        # What people added is part of every run.
        if index.stages[task["stage"]]["run"] > 1 and task["idx"] >= 0 and task["run"] != 0:
            number = task["run"] or index.stages[task["stage"]]["run"]
            by_stage[task["stage"]].append((number, run))
    for runs in by_stage.values():
        for number, run in runs:
            life = index.history.lives[run.life]
            over = min(one for one in (run.ended, life.died, index.history.ended) if one is not None)
            for later, other in runs:
                if later > number and other.started < over - rules_tasks.SLACK and not life.pauses:
                    name = index.name(index.task_by_id[other.task_id])
                    yield f"{name} of run {later} began at {other.started:.3f}, run {number} ended at {over:.3f}"


def suspects_alone(index: Index) -> Complaints:
    """A task that may take its worker down for the last time begins when what a person has ended there is gone."""
    yield from rules_tasks.suspects_alone(index)
    by_hand = {(row["task"], row["attempt"]) for row in index.history.attempts if row["outcome"] in BY_HAND}
    ended = [run for run in index.history.ledger if (index.task_by_id[run.task_id]["key"], run.attempt) in by_hand]
    for entry in rules_tasks.claims_of_suspects(index):
        life = index.history.lives[index.history.workers[entry.worker]]
        for run in ended:
            over = min(one for one in (run.ended, life.died, index.history.ended) if one is not None)
            here = run.life == life.worker and not life.pauses and index.task_by_id[run.task_id]["key"] != entry.key
            if here and run.started < entry.at < over - rules_tasks.SLACK:
                task = index.tasks[entry.key]
                yield f"{index.name(task)} was claimed at {entry.at:.3f} beside one that died until {over:.3f}"


def outputs(index: Index) -> Complaints:
    """Of a task that is repeated the file of the last attempt that counted is visible."""
    shown = {path.rsplit("/", 1)[-1]: content for path, content in index.history.files.items()}
    for task in index.history.tasks:
        counted = [row["attempt"] for row in index.attempts[task["key"]] if row["outcome"] == "completed"]
        wanted = f"{counted[-1]} done" if counted and task["task_class"] == rules_tasks.PRIVATE else None
        if shown.get(task["task_id"]) != wanted:
            yield f"{index.name(task)} shows {shown.get(task['task_id'])!r}, not {wanted!r}"


def files_in_time(index: Index) -> Complaints:
    """A task finds what the stages in front of it had left when it was claimed, or something newer."""
    private = [task for task in index.history.tasks if task["task_class"] == rules_tasks.PRIVATE]
    for run in index.history.ledger:
        if run.found is None:
            continue
        task = index.task_by_id[run.task_id]
        stage = index.stages[task["stage"]]
        claim = next((one for one in index.diary[task["key"]] if _is_claim(one) and one.attempt == run.attempt), None)
        for earlier in private if claim else ():
            place = index.stages[earlier["stage"]]
            if place["job"] != stage["job"] or place["place"] >= stage["place"]:
                continue
            before = [one for one in index.diary[earlier["key"]] if claim and one.seq < claim.seq]
            if before and before[-1].after == "COMPLETED" and _attempt_of(run, earlier) < (before[-1].attempt or 0):
                yield f"{index.name(task)}, attempt {run.attempt}, was started without files of {index.name(earlier)}"


def _is_claim(entry: Entry) -> bool:
    return (entry.before, entry.after) == ("QUEUED", "RUNNING")


def _attempt_of(run: Run, earlier: Row) -> int:
    """Return the attempt of an earlier task whose file a run has found; 0: of none."""
    assert run.found is not None
    return int(run.found.get(earlier["task_id"], "0 none").split()[0])


def ends(index: Index) -> Complaints:
    """A stage and its job end as their tasks say, and their counters are their rows."""
    hands: Counter[tuple[object, str]] = Counter()
    for task in index.history.tasks:
        if task["run"]:
            if task["state"] not in ENDED:
                yield f"{index.name(task)} is {task['state']} in a run that has ended"
            continue
        if task["idx"] >= 0 and task["by_whom"] is None and task["state"] == "CANCELLED":
            hands[task["stage"], "withdrawn"] += 1
        if task["idx"] >= 0 and task["by_whom"] is not None and task["state"] == "PENDING":
            hands[task["stage"], "held"] += 1
        if task["by_whom"] is not None and task["state"] == "QUEUED":
            yield f"{index.name(task)} is paused and QUEUED"
    for key, stage in index.stages.items():
        for word in ("withdrawn", "held"):
            if stage[word] != hands[key, word]:
                yield f"{index.stage_name(stage)} counts {stage[word]} {word}, it has {hands[key, word]}"
        yield from _stage_ends(index, stage, index.jobs[stage["job"]])


def _stage_ends(index: Index, stage: Row, job: Row) -> Complaints:
    bad = stage["failed"] + stage["cancelled"]
    unlisted = stage["spawn"] in ("FAILED", "CANCELLED")
    if job["state"] == "COMPLETED" and stage["state"] not in DONE:
        yield f"job {job['job_id']} is COMPLETED, its stage {stage['number']} is {stage['state']}"
    if stage["state"] == "COMPLETED" and (unlisted or (bad > tolerated(stage) and stage["on_error"] != "ignore")):
        yield f"{index.stage_name(stage)} is COMPLETED with {bad} that are not done"
    if job["state"] in ENDED and stage["state"] not in ENDED:
        yield f"{index.stage_name(stage)} is {stage['state']}, its job has ended"
    if job["state"] in ENDED and (job["paused_at"] is not None or stage["paused_at"] is not None):
        yield f"{index.stage_name(stage)} is paused, its job has ended"


def misfits(index: Index) -> Complaints:
    """A task whose item was rejected is never queued, whatever is requested."""
    # One whose secret was erased before it was made is refused as well, and runs when it is given another.
    refused = {entry.key for entry in index.history.diary if entry.kind == "task" and entry.before is None
               and entry.after == "FAILED" and index.tasks[entry.key]["seal_number"] is None}  # fmt: skip
    for entry in index.history.diary:
        if entry.kind == "task" and entry.key in refused and entry.after in ("PENDING", "QUEUED", "RUNNING"):
            yield f"{index.name(index.tasks[entry.key])}, whose item did not fit, was {entry.after} at {entry.at:.3f}"


def in_vain(index: Index) -> Complaints:
    """No job is opened again only to end badly in the same moment."""
    opened: dict[object, object] = {}
    for event in sorted(index.history.events, key=lambda event: (event["job"], event["number"])):
        if event["kind"] in ("job_reopened", "job_retried"):
            opened[event["job"]] = event["at"]
        elif event["kind"] in ("job_failed", "job_cancelled") and opened.get(event["job"]) == event["at"]:
            yield f"job {index.jobs[event['job']]['job_id']} was opened and ended at {event['at']:.3f}"


def paused(index: Index, held: Sequence[Held], touched: Sequence[tuple[str, float]]) -> Complaints:
    """No task of a confirmed pause is claimed until the next request about that job."""
    asked = [*touched, *((str(one.job_id), one.begun) for one in index.history.asked if one.what != "submit")]
    ids = {str(row["job_id"]): key for key, row in index.jobs.items()}
    for one in held:
        until = min((at for job_id, at in asked if job_id == one.job_id and at > one.begun), default=float("inf"))
        for entry in index.history.diary:
            if entry.kind != "task" or (entry.before, entry.after) != ("QUEUED", "RUNNING"):
                continue
            task = index.tasks[entry.key]
            stage = index.stages[task["stage"]]
            if not one.since < entry.at < until or stage["job"] != ids[one.job_id]:
                continue
            whole = one.stage is None or (one.task_id is None and stage["number"] == one.stage)
            if whole or task["task_id"] == one.task_id:
                yield f"{index.name(task)} was claimed at {entry.at:.3f}, paused at {one.since:.3f}"
