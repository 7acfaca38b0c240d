"""The doors of the datastore: open one by its URL, and migrate one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from echelon.controller.datastore import sqlite
from echelon.controller.datastore.port import Datastore
from echelon.shared.clock import Clock, SystemClock
from echelon.shared.errors import InvalidInput


def open_datastore(url: str, *, clock: Clock | None = None) -> Datastore:
    """Open the datastore at `sqlite:///path` (made and migrated here) or `postgresql://...` (migrated beforehand).

    `clock` gives the time of an SQLite datastore; PostgreSQL has its own. Raises StoreUnavailable, InvalidInput.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        path = _path(parsed)
        sqlite.migrate(path)
        return sqlite.SqliteDatastore(path, clock or SystemClock())
    return _postgresql().open_checked(parsed)


def migrate(url: str) -> str:
    """Bring a datastore to the schema of this release and return the schema's name."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite.migrate(_path(parsed))
    return _postgresql().migrate(parsed)


class _Postgresql(Protocol):
    """What this module needs of `echelon.controller.datastore.postgresql`."""

    def open_checked(self, url: URL) -> Datastore: ...

    def migrate(self, url: URL) -> str: ...


def _postgresql() -> _Postgresql:
    """Return the adapter; its driver is an extra that not everybody installs."""
    try:
        from echelon.controller.datastore import postgresql

        return postgresql
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise InvalidInput("a PostgreSQL datastore needs psycopg: pip install 'echelon[postgresql]'") from None


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput("the datastore's URL must look like sqlite:///path or postgresql://user@host/name")
    return parsed


def _path(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise InvalidInput("an SQLite datastore needs a file: sqlite:///path")
    return Path(url.database)
