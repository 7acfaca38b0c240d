"""Statements of the write path about files that are still to be published, each with the order of its parameters."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, FromClause, Insert, and_, delete, exists, or_, select
from sqlalchemy import bindparam as _p
from sqlalchemy.dialects import postgresql, sqlite

from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.sql import ONE
from echelon.controller.datastore.tables import unpublished

_MARK: dict[str, BindParameter[Any]] = {"task": _p("task"), "attempt": _p("attempt")}
_sqlite = sqlite.insert(unpublished).inline().values(_MARK)
_postgresql = postgresql.insert(unpublished).inline().values(_MARK)


def _mark_of_records(records: FromClause) -> Insert:
    marks = postgresql.insert(unpublished).inline()
    marks = marks.from_select(["task", "attempt"], select(records.c.task, records.c.attempt))
    return marks.on_conflict_do_update(index_elements=["task"], set_={"attempt": marks.excluded.attempt})


#: One line for each task: whoever publishes the attempt in it publishes those that counted before it first.
MARK_UNPUBLISHED = Prepared(
    _sqlite.on_conflict_do_update(index_elements=["task"], set_={"attempt": _sqlite.excluded.attempt}),
    "task attempt",
    postgresql=_postgresql.on_conflict_do_update(
        index_elements=["task"], set_={"attempt": _postgresql.excluded.attempt}
    ),
    of_records=_mark_of_records,
)
LACKS_FILES = Prepared(
    select(
        exists(
            select(ONE).where(
                or_(
                    and_(unpublished.c.task >= _p("first_key"), unpublished.c.task < _p("end_key")),
                    unpublished.c.task == _p("at_key"),
                )
            )
        )
    ),
    "first_key end_key at_key",
)
DELETE_PUBLISHED = Prepared(
    delete(unpublished)
    .where(Among(unpublished.c.task, _p("keys")), unpublished.c.attempt == _p("at_attempt"))
    .returning(unpublished.c.task),
    "keys at_attempt",
)
DELETE_UNPUBLISHED = Prepared(
    delete(unpublished).where(unpublished.c.task >= _p("first_key"), unpublished.c.task < _p("end_key")),
    "first_key end_key",
)
