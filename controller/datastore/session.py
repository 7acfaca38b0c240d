"""The port of a database for statements: one open transaction on the driver's own cursor."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from echelon.controller.datastore.prepared import Prepared

Row = tuple[Any, ...]


class Session(Protocol):
    """One open transaction."""

    def now(self) -> float:
        """Return the store's time, the same throughout the transaction."""

    def fetch_rows(self, statement: Prepared, parameters: Row = ()) -> list[Row]:
        """Run a statement and return its rows."""

    def send_rows(self, statement: Prepared, *parameters: Row) -> None:
        """Run a statement once per tuple; its result is not awaited. `verify_guards` raises its error at the latest."""

    def send_guarded(self, statement: Prepared, parameters: Sequence[Row], complaint: str) -> None:
        """Run a statement once per tuple; `verify_guards` raises GuardFailed at the latest if one changes no row."""

    def verify_guards(self) -> None:
        """Raise GuardFailed for the first guarded statement that changed the wrong number of rows."""

    def list_parameter(self, values: Collection[Any]) -> object:
        """Return the parameter that `Among` takes for a list of values."""

    def reserve_keys(self, count: int) -> int:
        """Reserve `count` consecutive keys and return the first."""

    def next_number(self, statement: Prepared, job: int) -> int | None:
        """Return the next number in a job's history by this statement; None where the database counts by itself."""
