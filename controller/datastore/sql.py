"""Parts of statements that several files use.

States are literals in statements: only then do the partial indexes apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    FromClause,
    Insert,
    Table,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    select,
)

from echelon.controller.core.states import TASK_TRANSITIONS, State
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.tables import attempts, events, jobs, stages, tasks

ONE: ColumnClause[int] = literal_column("1")
ZERO: ColumnClause[int] = literal_column("0")
#: In `tasks.not_before`: the task waits for the end of its last attempt, not for a time.
AT_ONCE: ColumnClause[float] = literal_column("0.0")


def is_in(column: ColumnElement[Any], *states: State) -> ColumnElement[bool]:
    """Return `column IN (states)` with literal states."""
    words = [state_literal(state) for state in states]
    return column == words[0] if len(words) == 1 else column.in_(words)


def guard_leaving(*states: State, to: State) -> ColumnElement[bool]:
    """Return the guard of a statement that takes tasks from these states to another, as the core's table allows."""
    for state in states:
        if to not in TASK_TRANSITIONS[state]:
            raise TypeError(f"no task goes from {state} to {to}")
    return is_in(tasks.c.state, *states)


def guard_becoming(target: State, *, but: State) -> ColumnElement[bool]:
    """Return the guard for all states from which the core's table allows `target`, except `but`."""
    return is_in(tasks.c.state, *(state for state in State if target in TASK_TRANSITIONS[state] and state is not but))


def still_in(column: ColumnElement[Any], state: State) -> ColumnElement[bool]:
    """Return `column = state` for a statement with known keys, in a form that no index matches.

    Otherwise PostgreSQL may search that state's index and read all of it: measured, 6 ms instead of 1 for 60 tasks
    beside 20,000 queued ones, and more with a longer queue.
    """
    return column.concat(literal_column("''")) == state_literal(state)


def state_literal(state: State) -> ColumnElement[str]:
    """Return a state as a literal of SQL."""
    return literal_column(f"'{state}'")


#: Tasks with their stages and jobs.
TASKS_OF_JOBS = tasks.join(stages, stages.c.key == tasks.c.stage).join(jobs, jobs.c.key == stages.c.job)
#: What workers hold, and of that what has started, in the words of its index, and what waits for a slot.
RUNNING = is_in(tasks.c.state, State.RUNNING)
STARTED = and_(RUNNING, tasks.c.started_at.is_not(None))
GIVEN = and_(RUNNING, tasks.c.started_at.is_(None))
#: A task's state as people see it, as `show_state` says.
SHOWN_STATE: ColumnElement[Any] = case((GIVEN, state_literal(State.QUEUED)), else_=tasks.c.state)
#: An attempt without a claim whose processes may still exist; in the words of its index.
DYING = and_(tasks.c.state != state_literal(State.RUNNING), tasks.c.lease_until.is_not(None))
#: Tasks of the present run of their stage; only tasks that have ended belong to another.
PRESENT = func.coalesce(tasks.c.run, ZERO) == ZERO
#: Tasks with keys from the first to before the second.
IN_RANGE = and_(tasks.c.key >= bindparam("first_key"), tasks.c.key < bindparam("end_key"))


def build_insertion(table: Table) -> Prepared:
    """Return the insertion of whole rows. PostgreSQL numbers the lines of a history itself (given None)."""
    numbered = table in (events, attempts)

    def values(given: Callable[[str], ColumnElement[Any]], *, sequence: bool) -> dict[str, ColumnElement[Any]]:
        found = {column.name: given(column.name) for column in table.columns}
        if sequence:
            found["number"] = func.coalesce(found["number"], literal_column("nextval('history_numbers')"))
        return found

    def of_records(records: FromClause) -> Insert:
        found = values(lambda name: records.c[name], sequence=numbered)
        return insert(table).inline().from_select(list(found), select(*found.values()))

    return Prepared(
        insert(table).inline().values(values(bindparam, sequence=False)),
        " ".join(column.name for column in table.columns),
        postgresql=insert(table).inline().values(values(bindparam, sequence=numbered)),
        of_records=of_records,
    )
