"""Statements of the write path about files that are still to be published, each with the order of its parameters."""

from __future__ import annotations

from sqlalchemy import and_, delete, exists, or_, select
from sqlalchemy import bindparam as _p

from controller.datastore.prepared import Among, Prepared
from controller.datastore.sql import ONE, insertion
from controller.datastore.tables import unpublished

INSERT_UNPUBLISHED = insertion(unpublished)
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
    delete(unpublished).where(Among(unpublished.c.task, _p("keys"))).returning(unpublished.c.task), "keys"
)
DELETE_UNPUBLISHED = Prepared(
    delete(unpublished).where(unpublished.c.task >= _p("first_key"), unpublished.c.task < _p("end_key")),
    "first_key end_key",
)
