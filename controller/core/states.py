"""States of jobs, stages and tasks, and which may follow which.

The tables are the specification. The core checks each change against them (`check_transition`); the guards of the
store's statements and the diagram in img/ are made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a job, a stage or a task stands. The same word in Python, SQL, JSON and on screen."""

    PENDING = "PENDING"
    #: Tasks only: may be claimed by a worker.
    QUEUED = "QUEUED"
    #: Of a task: a worker holds it. People see it as QUEUED until it has started there: `show_state`.
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    #: Counts as done without having run.
    SKIPPED = "SKIPPED"


ENDED: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.SKIPPED})
OPEN: Final = frozenset(State) - ENDED
#: A stage or a task that no longer holds up what comes after it.
DONE: Final = frozenset({State.COMPLETED, State.SKIPPED})
NOT_DONE: Final = frozenset(State) - DONE

#: Every change of a task's state. The way out of an ended state is a person's retry or skip, and nothing else.
TASK_TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.QUEUED, State.CANCELLED, State.SKIPPED}),
    State.QUEUED: frozenset({State.RUNNING, State.PENDING, State.CANCELLED, State.SKIPPED}),
    State.RUNNING: frozenset({State.PENDING, State.QUEUED}) | ENDED,
    State.COMPLETED: frozenset({State.PENDING, State.QUEUED}),
    State.FAILED: frozenset({State.PENDING, State.QUEUED, State.SKIPPED}),
    State.CANCELLED: frozenset({State.PENDING, State.QUEUED, State.SKIPPED}),
    State.SKIPPED: frozenset({State.PENDING, State.QUEUED}),
}

#: Every change of a stage's state.
STAGE_TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.RUNNING, State.CANCELLED, State.SKIPPED}),
    State.RUNNING: ENDED,
    State.COMPLETED: frozenset({State.PENDING, State.RUNNING}),
    State.FAILED: frozenset({State.PENDING, State.RUNNING, State.SKIPPED}),
    State.CANCELLED: frozenset({State.PENDING, State.RUNNING, State.SKIPPED}),
    State.SKIPPED: frozenset({State.PENDING, State.RUNNING}),
}

#: Every change of a job's state.
JOB_TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.RUNNING, State.CANCELLED, State.SKIPPED}),
    State.RUNNING: ENDED,
    State.COMPLETED: frozenset({State.RUNNING}),
    State.FAILED: frozenset({State.RUNNING, State.SKIPPED}),
    State.CANCELLED: frozenset({State.RUNNING, State.SKIPPED}),
    State.SKIPPED: frozenset({State.RUNNING}),
}


def show_state(state: State, *, started: bool) -> State:
    """Return a task's state as people see it: one that a worker holds and has not started is QUEUED."""
    return State.QUEUED if state is State.RUNNING and not started else state


class ForbiddenTransition(Exception):
    """A state was to follow that the table does not allow: a bug of Echelon."""


def check_transition(table: Mapping[State, frozenset[State]], what: str, source: State, target: State) -> None:
    """Raise ForbiddenTransition unless a table lets one state follow another; a state may always stay."""
    if target is not source and target not in table[source]:
        raise ForbiddenTransition(f"{what} cannot go from {source} to {target} (a bug of Echelon)")
