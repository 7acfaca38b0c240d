"""The meaning of each verb in each state: the engine asks this table, and the documentation is made from it.

`answer_verb(kind, state, verb)` says whether a verb is allowed for a job, a stage or a task in a state. The test
`tests/engine/test_verbs.py` walks through all of it and looks at what really happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from echelon.controller.core.states import DONE, ENDED, State


class Kind(StrEnum):
    """The objects of a verb."""

    JOB = "job"
    STAGE = "stage"
    TASK = "task"


class Verb(StrEnum):
    """The requests of live control."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    KILL = "kill"
    RETRY = "retry"
    SKIP = "skip"
    #: Tasks to a stage.
    ADD = "add"
    #: The new one for the waiting tasks of a job or a stage.
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Allowed:
    """It is done."""

    #: The effect, for people.
    meaning: str


@dataclass(frozen=True, slots=True)
class NoEffect:
    """It is no mistake to ask, and nothing changes."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be."""

    reason: str


Answer = Allowed | NoEffect | Refused

#: The states that a job, a stage or a task can be in.
STATES = {
    Kind.JOB: tuple(state for state in State if state is not State.QUEUED),
    Kind.STAGE: tuple(state for state in State if state is not State.QUEUED),
    Kind.TASK: tuple(State),
}
#: The verbs that can be said to each.
VERBS = {
    Kind.JOB: tuple(verb for verb in Verb if verb is not Verb.ADD),
    Kind.STAGE: tuple(Verb),
    # The tasks of a stage are claimed in their order: they have one priority.
    Kind.TASK: tuple(verb for verb in Verb if verb not in (Verb.ADD, Verb.PRIORITY)),
}


#: Why a task that was refused when its item was read does not run: its values are those of no task.
MISFIT = "its item did not fit the task, so there is nothing to run: it can only be skipped"

#: Why a spawn task that has completed does not run again.
SPAWNED = (
    "a completed spawn task is not run again, its items are tasks already: for a new list retry the stage before it "
    "with `downstream`, or submit the job again"
)


def answer_verb(
    kind: Kind, state: State, verb: Verb, *, paused: bool = False, everything: bool = False, misfit: bool = False
) -> Answer:
    """Return what a verb means for a job, a stage or a task in a state.

    `everything`: a retry is meant for what has completed too. `misfit`: the task's item did not fit.
    """
    if verb not in VERBS[kind] or state not in STATES[kind]:
        raise ValueError(f"{verb} means nothing for a {kind} that is {state}")
    match verb:
        case Verb.PAUSE:
            return _answer_pause(kind, state, paused)
        case Verb.RESUME:
            return Allowed("it goes on") if paused and state not in ENDED else NoEffect("it is not paused")
        case Verb.CANCEL:
            return _answer_cancel(kind, state)
        case Verb.KILL:
            return _answer_kill(kind, state)
        case Verb.RETRY:
            return Refused(MISFIT) if misfit and kind is Kind.TASK else _answer_retry(kind, state, everything, paused)
        case Verb.SKIP:
            return _answer_skip(kind, state)
        case Verb.ADD:
            return _answer_add(state, paused)
        case Verb.PRIORITY:
            return Refused(f"it is {state} already") if state in ENDED else Allowed("what waits has that priority")


def _answer_pause(kind: Kind, state: State, paused: bool) -> Answer:
    if state in ENDED:
        return Refused(f"it is {state} already")
    if paused:
        return NoEffect("it is paused already")
    if kind is Kind.TASK and state is State.RUNNING:
        return Allowed("its attempt goes on, no other one is started")
    if kind is not Kind.TASK and state is State.RUNNING:
        return Allowed("what runs goes on, nothing else is started, and it does not complete")
    return Allowed("it is not started")


def _answer_cancel(kind: Kind, state: State) -> Answer:
    if state is State.CANCELLED:
        return NoEffect("it is CANCELLED already")
    if state in ENDED:
        return Refused(f"it is {state} already; only what is open can be cancelled")
    if state is State.RUNNING:
        return Allowed("CANCELLED; what runs is ended")
    return Allowed("CANCELLED")


def _answer_kill(kind: Kind, state: State) -> Answer:
    if state is State.RUNNING:
        what = "its attempt is" if kind is Kind.TASK else "the attempts that run are"
        return Allowed(f"{what} ended, and counted as failed: tried again as far as its retries go, else FAILED")
    if state in ENDED:
        return Refused(f"it is {state} already; only what runs can be killed")
    return NoEffect("nothing of it runs")


def _answer_retry(kind: Kind, state: State, everything: bool, paused: bool) -> Answer:
    whole = kind is not Kind.TASK
    if state in (State.FAILED, State.CANCELLED, State.SKIPPED):
        return Allowed("what has not completed runs again" if whole else "it runs again, with all of its retries")
    if state is State.COMPLETED:
        if everything:
            return Allowed("all of it runs again" if whole else "it runs again")
        if whole:
            return Allowed("what has failed or was cancelled in spite of it runs again; with `all`, all of it")
        return Refused("it is COMPLETED already; only with `all` (only_failed=false) it runs again")
    if state is State.RUNNING:
        if whole:
            return Allowed("what has failed or was cancelled runs again; with `all`, what runs is killed first")
        when = " when it is resumed," if paused else ""
        return Allowed(f"it is killed, and runs again{when} whatever its retries say")
    if kind is Kind.JOB:
        return NoEffect("it has not begun")
    return NoEffect("it has yet to run" if kind is Kind.TASK else "it has not begun")


def _answer_skip(kind: Kind, state: State) -> Answer:
    if state is State.SKIPPED:
        return NoEffect("it is SKIPPED already")
    if state in DONE:
        return Refused(f"it is {state} already")
    if state is State.RUNNING:
        return Allowed("SKIPPED; what runs is ended")
    if state in ENDED and kind is not Kind.JOB:
        return Allowed("SKIPPED; a job that ended for it goes on")
    return Allowed("SKIPPED")


def _answer_add(state: State, paused: bool) -> Answer:
    if state in ENDED:
        return Refused(f"it is {state} already")
    if state is State.PENDING or paused:
        return Allowed("the tasks are added")
    return Refused("it runs; pause it first")
