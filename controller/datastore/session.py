"""What the statements need of a database: one open transaction on the driver's own cursor."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from controller.datastore.prepared import Prepared

Row = tuple[Any, ...]


class Session(Protocol):
    """One open transaction."""

    def now(self) -> float:
        """Return the store's time, the same throughout the transaction."""

    def rows(self, statement: Prepared, parameters: Row = ()) -> list[Row]:
        """Run a statement and return its rows."""

    def change(self, statement: Prepared, parameters: Row = ()) -> int:
        """Run a statement and return how many rows it changed."""

    def change_many(self, statement: Prepared, parameters: Sequence[Row]) -> int:
        """Run a statement once per tuple and return how many rows were changed in all."""

    def listed(self, values: Collection[Any]) -> object:
        """Return the parameter that `Among` takes for a list of values."""

    def reserve_keys(self, count: int) -> int:
        """Return the first of `count` consecutive keys that nobody else gets."""

    def next_number(self, statement: Prepared, job: int) -> int | None:
        """Return the next number in a job's history by this statement; None where the database counts by itself."""
