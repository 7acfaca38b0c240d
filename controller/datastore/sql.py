"""Pieces of statements that several files use."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnClause, ColumnElement, Table, bindparam, func, insert, literal_column

from controller.core.states import State
from controller.datastore.prepared import Prepared
from controller.datastore.tables import attempts, events

ONE: ColumnClause[int] = literal_column("1")
ZERO: ColumnClause[int] = literal_column("0")


def is_in(column: ColumnElement[Any], *states: State) -> ColumnElement[bool]:
    """Return `column IN (states)` with the words standing literally."""
    words = [word(state) for state in states]
    return column == words[0] if len(words) == 1 else column.in_(words)


def word(state: State) -> ColumnElement[str]:
    """Return a state as a literal of SQL."""
    return literal_column(f"'{state}'")


def insertion(table: Table) -> Prepared:
    """Return the insertion of whole rows. PostgreSQL numbers the lines of a history itself (given None)."""
    values: dict[str, ColumnElement[Any]] = {column.name: bindparam(column.name) for column in table.columns}
    plain = insert(table).inline().values(values)
    if table in (events, attempts):
        values["number"] = func.coalesce(bindparam("number"), literal_column("nextval('history_numbers')"))
    numbered = insert(table).inline().values(values)
    return Prepared(plain, " ".join(values), postgresql=numbered)
