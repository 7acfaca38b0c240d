"""Rules for requests that choose tasks by ranges, states, names and etags, and for the secrets of single tasks.

Every commit of a request is judged by what it did to the rows; the answers by the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence

from echelon.controller.core.answers import Verb
from echelon.controller.engine.base.requests import Changed, Retried
from tests.simulation.deeds import Deeds
from tests.simulation.history import Run
from tests.simulation.index import Complaints, Index
from tests.simulation.people import first_token
from tests.simulation.tasks import secret_of_item
from tests.simulation.witness import Seen, TaskRow, Wish

OPEN = frozenset({"PENDING", "QUEUED", "RUNNING"})
DONE = frozenset({"COMPLETED", "SKIPPED"})
AGAIN = frozenset({"PENDING", "QUEUED"})
#: Verbs after which a person's name stands at a task, and those after which none does.
_HANDS = {Verb.PAUSE: True, Verb.CANCEL: True, Verb.SKIP: True, Verb.RESUME: False, Verb.RETRY: False}
#: (When in the diary, the secret from then on), in order.
_Secrets = list[tuple[int, str]]


def etags(seen: Sequence[Seen]) -> Complaints:
    """Who has read an etag that is old changes nothing; what changes has another etag afterwards."""
    for one in seen:
        expected = one.wish.etag
        if expected is not None and expected != one.before.etag:
            yield f"{one.wish} was carried out with the etag {expected}, when it was {one.before.etag}"
        for task_id, before in one.before.tasks.items():
            after = one.after.tasks[task_id]
            if after != before and after.etag == before.etag:
                yield f"{one.wish}: {_name(before)} went from {before} to {after} and kept its etag"


def chosen(seen: Sequence[Seen]) -> Complaints:
    """All tasks that were chosen change as the verb says, and no others but for what follows for their stages."""
    for one in seen:
        for before in one.before.tasks.values() if one.wish.chooses else ():
            after = one.after.tasks[before.task_id]
            states, went = _states(one, before), f"and went from {_stands(before)} to {_stands(after)}"
            if states is None:
                if not _follows(before, after):
                    yield f"{one.wish}: {_name(before)} was not meant, {went}"
            elif after.state not in states or not _handled(one.wish, before, after):
                yield f"{one.wish}: {_name(before)} was chosen, {went}"


def prioritised(seen: Sequence[Seen]) -> Complaints:
    """A verb for priorities gives them to all stages that are meant and have not ended, and changes no task."""
    for one in seen:
        wish, (before, after) = one.wish, (one.before.stages, one.after.stages)
        asked = wish.verb is Verb.PRIORITY
        for number, ((state, *was), (_, *now)) in enumerate(zip(before, after, strict=True)):
            meant = asked and wish.stage in (None, number) and state in OPEN
            if now != ([wish.priority] * 2 if meant else was):
                yield f"{wish}: stage {number}, {state}, went from the priorities {was} to {now}"
        if asked and one.before.tasks != one.after.tasks:
            yield f"{wish} changed tasks"


def told(deeds: Deeds) -> Complaints:
    """An answer tells what was changed of that which was chosen, and how much was not."""
    seen: dict[int, list[Seen]] = defaultdict(list)
    for one in deeds.seen:
        seen[one.wish.number].append(one)
    for wish, answer in deeds.answers:
        changed = {
            before.task_id
            for one in seen[wish.number]
            for before in one.before.tasks.values()
            if _states(one, before) is not None
        }
        if isinstance(answer, Retried):
            said = {str(task.task_id) for task in answer.tasks if task.changed}
            if said != changed or len(answer.tasks) != len(wish.named):
                yield f"{wish}: the answer says that {sorted(said)} run again, and {sorted(changed)} do"
        elif isinstance(answer, Changed) and wish.chooses and answer.tasks != len(changed):
            yield f"{wish}: the answer says that {answer.tasks} tasks were changed, {len(changed)} were"


def secrets(index: Index, deeds: Deeds) -> Complaints:
    """A task runs with its own secret, else with the one that was given last to its job; never with an erased one."""
    own, of_jobs = _own_secrets(index, deeds), _secrets_of_jobs(index, deeds)
    for one in deeds.seen:
        for task_id, before in one.before.tasks.items():
            if one.after.tasks[task_id].values != before.values:
                yield f"{one.wish}: {_name(before)} has other values than before"
    for run in index.history.ledger:
        task = index.task_by_id[run.task_id]
        claimed = _claimed(index, run)
        of_job = (token for seq, token in reversed(of_jobs.get(run.job_id, [])) if seq < claimed)
        wanted = own.get(run.task_id) or next(of_job, "")
        if run.token != wanted:
            yield f"{index.name(task)} ran attempt {run.attempt} with {run.token!r}; given was {wanted!r}"


# --- what was meant


def _states(one: Seen, task: TaskRow) -> frozenset[str] | None:
    """Return the states that a task may have after the commit; None: it was not chosen, or is left as it is."""
    if not _meant(one.wish, task):
        return None
    state, paused = task.state, task.by is not None
    match one.wish.verb:
        case Verb.PAUSE if state in OPEN and not paused:
            # What waits at a worker is asked back.
            return frozenset({"PENDING", state} if state == "QUEUED" else {state})
        case Verb.RESUME if state in OPEN and paused:
            return frozenset({state, "QUEUED"}) if state == "PENDING" else frozenset({state})
        case Verb.CANCEL if state in OPEN:
            return frozenset({"CANCELLED"})
        case Verb.KILL if state == "RUNNING":
            # A task with retries left is withdrawn when its job fails.
            return frozenset({"PENDING", "FAILED", "CANCELLED"})
        case Verb.SKIP if state not in DONE:
            return frozenset({"SKIPPED"})
        case Verb.RETRY if _runs_again(one, task):
            return AGAIN
        case _:
            return None


def _meant(wish: Wish, task: TaskRow) -> bool:
    if wish.named:
        return task.task_id in wish.named and wish.named[task.task_id] in (None, task.etag)
    choice = wish.choice
    here = wish.stage in (None, task.stage) and choice.state in (None, task.state)
    return here and (choice.spans is None or any(first <= task.index <= last for first, last in choice.spans))


def _runs_again(one: Seen, task: TaskRow) -> bool:
    wish, everything = one.wish, not one.wish.choice.only_failed
    misfit = task.attempt == 0 and task.error is not None and task.seal_number is None
    lost = task.seal_number is not None and task.seal_number != one.before.seal_number
    if task.state in AGAIN or misfit or lost:
        return False
    if task.state == "COMPLETED":
        return everything and task.index >= 0
    return task.state in ("FAILED", "CANCELLED") or bool(wish.named) or everything or wish.choice.state == task.state


def _handled(wish: Wish, before: TaskRow, after: TaskRow) -> bool:
    """Tell whether a person's name stands there when it should; a pause outlives the attempt that is killed."""
    if wish.verb is Verb.KILL or (wish.verb is Verb.RETRY and before.state == "RUNNING"):
        return True
    return (after.by is not None) is _HANDS[wish.verb]


def _follows(before: TaskRow, after: TaskRow) -> bool:
    """Tell whether a task that was not chosen is as it was, or as its stage's or its job's new state has made it."""
    if (before.state, before.by, before.failures, before.losses) == (
        after.state, after.by, after.failures, after.losses,
    ):  # fmt: skip
        return before.attempt == after.attempt
    if after.by is not None or before.state in ("COMPLETED", "FAILED", "SKIPPED"):
        return False
    if before.by is not None and after.state in AGAIN:
        # Nothing is paused that has ended, and this has ended with its job and come back with it: two changes.
        return before.state in OPEN and after.etag >= before.etag + 2
    withdrawn = before.state in OPEN and after.state == "CANCELLED"
    restored = before.state == "CANCELLED" and after.state in AGAIN
    released = before.state in AGAIN and after.state in AGAIN
    return withdrawn or restored or released


def _stands(task: TaskRow) -> str:
    return f"{task.state} (by {task.by}, etag {task.etag})"


def _name(task: TaskRow) -> str:
    return f"task {task.stage}.{task.index}"


# --- secrets


def _own_secrets(index: Index, deeds: Deeds) -> dict[str, str]:
    """Return the secrets of single tasks."""
    made = [*_spawned(index), *_composed(index, deeds), *_added(deeds)]
    return {task_id: token for task_id, token in made if token is not None}


def _spawned(index: Index) -> Iterator[tuple[str, str | None]]:
    for task in index.history.tasks:
        if index.stages[task["stage"]]["spawn"] is not None and task["idx"] >= 0:
            yield task["task_id"], secret_of_item(json.loads(task["input"] or "{}").get("item", ""))


def _composed(index: Index, deeds: Deeds) -> Iterator[tuple[str, str | None]]:
    for task in index.history.tasks:
        tokens = deeds.composed.get(index.job_of(task)["type"], {})
        yield task["task_id"], tokens.get((index.stages[task["stage"]]["number"], task["idx"]))


def _added(deeds: Deeds) -> Iterator[tuple[str, str | None]]:
    for one in deeds.seen:
        new = [task for task_id, task in one.after.tasks.items() if task_id not in one.before.tasks]
        yield from zip([row.task_id for row in sorted(new, key=_index)], one.wish.own, strict=False)


def _index(task: TaskRow) -> int:
    return task.index


def _secrets_of_jobs(index: Index, deeds: Deeds) -> dict[str, _Secrets]:
    """Return the secrets of whole jobs: that of the submission, then those of whoever has opened them again."""
    found: dict[str, _Secrets] = {
        job["job_id"]: [(-1, first_token(json.loads(job["input"])["note"]))]
        for job in index.history.jobs
        if job["secret"] != "[]"
    }
    for one in deeds.seen:
        opened = one.before.state not in OPEN and one.after.state in OPEN
        if opened and one.job_id in found:
            found[one.job_id].append((one.seq, one.wish.token))
    return found


def _claimed(index: Index, run: Run) -> int:
    """Return the line of the diary at which the attempt of a run was claimed."""
    lines = index.diary[index.task_by_id[run.task_id]["key"]]
    return next((line.seq for line in lines if line.attempt == run.attempt and line.after == "RUNNING"), 0)
