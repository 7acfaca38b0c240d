"""The port of a datastore. An adapter passes the suite in tests/contract/test_datastore.py."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.records import JobView
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.ids import JobId


class Datastore(Protocol):
    """A database. Safe for any thread."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Begin a write transaction; leaving the block commits durably, an exception rolls back.

        Raises StoreUnavailable when the database is away, or OutcomeUnknown when the commit may have taken effect.
        """

    def read(self) -> AbstractContextManager[Reader]:
        """Begin a consistent snapshot."""

    def find_job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages by one statement, for requests that clients repeat often."""

    def check(self) -> None:
        """Raise StoreUnavailable when the database does not answer or its schema is not ours."""

    def close(self) -> None:
        """Close every connection."""
