"""The base of all parts of a reader: its connection, the keys of jobs, and the sizes of pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, select
from sqlalchemy import Row as Named

from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.tables import jobs
from echelon.shared.errors import InvalidInput
from echelon.shared.ids import JobId

_LONGEST_TEXT = 1_000
_LARGEST_PAGE = 10_000

#: A row of many columns.
Found: TypeAlias = "Named[*tuple[Any, ...]]"


class ReaderBase:
    """One snapshot of the database."""

    def __init__(self, connection: Connection, now: Callable[[], float]) -> None:
        self._connection = connection
        self._now = now

    def now(self) -> float:
        """Return the store's own time, seconds since the epoch."""
        return self._now()

    # --- for the parts

    def _run_prepared(self, statement: Prepared, *parameters: str) -> Sequence[Found]:
        text = statement.sqlite if self._connection.dialect.name == "sqlite" else statement.postgresql
        return self._connection.exec_driver_sql(text, parameters).all()

    def _job_key(self, job_id: JobId) -> Any:
        return select(jobs.c.key).where(jobs.c.job_id == job_id).scalar_subquery()

    def _find_keys(self, job_id: JobId) -> tuple[int, int] | None:
        """Return a job's key and its number of stages."""
        row = self._connection.execute(select(jobs.c.key, jobs.c.stage_count).where(jobs.c.job_id == job_id)).first()
        return (row[0], row[1]) if row else None


def page_size(limit: int) -> int:
    """Return a limit within the range of the database's integers."""
    return max(1, min(limit, _LARGEST_PAGE))


def check_search_text(text: str) -> str:
    """Return text that a database can compare; InvalidInput if no stored text can contain it."""
    if len(text) > _LONGEST_TEXT or "\0" in text:
        raise InvalidInput(f"the text to look for holds NUL or more than {_LONGEST_TEXT} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the text to look for is not valid Unicode") from None
    return text
