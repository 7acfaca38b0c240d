"""The doors of the datastore: open one by its URL, and migrate one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from controller.datastore import sqlite
from controller.datastore.port import Datastore
from shared.clock import Clock, SystemClock
from shared.errors import InvalidInput


def open_datastore(url: str, *, clock: Clock | None = None) -> Datastore:
    """Open the datastore at `sqlite:///path` (made and migrated here) or `postgresql://...` (migrated beforehand).

    `clock` gives the time of an SQLite datastore; PostgreSQL has its own. Raises StoreUnavailable, InvalidInput.
    """
    parsed = _parsed(url)
    path = _path(parsed)
    sqlite.migrate(path)
    return sqlite.SqliteDatastore(path, clock or SystemClock())


def migrate(url: str) -> str:
    """Bring a datastore to the schema of this release and return the schema's name."""
    return sqlite.migrate(_path(_parsed(url)))


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise InvalidInput("the datastore's URL must look like sqlite:///path or postgresql://...") from None


def _path(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise InvalidInput("an SQLite datastore needs a file: sqlite:///path")
    return Path(url.database)
