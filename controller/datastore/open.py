"""Open or migrate a datastore by its URL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from echelon.controller.datastore import sqlite
from echelon.controller.datastore.errors import SchemaMismatch
from echelon.controller.datastore.port import Datastore
from echelon.shared.clock import Clock, SystemClock
from echelon.shared.errors import InvalidInput, StoreUnavailable

log = logging.getLogger(__name__)


def open_datastore(url: str, *, clock: Clock | None = None) -> Datastore:
    """Open the datastore at `sqlite:///path` (made and migrated here) or `postgresql://...` (migrated beforehand).

    `clock` gives the time of an SQLite datastore; PostgreSQL has its own. Raises StoreUnavailable, InvalidInput.
    """
    store = _connect_store(url, clock)
    try:
        store.check()
    except BaseException:
        store.close()
        raise
    return store


def open_when_there(url: str) -> Datastore:
    """Open a datastore that may still be away: then every use raises StoreUnavailable until it answers.

    Raises at once what waiting does not solve: SchemaMismatch, InvalidInput.
    """
    store = _connect_store(url, None)
    try:
        store.check()
    except StoreUnavailable as error:
        if isinstance(error, SchemaMismatch):
            store.close()
            raise
        log.warning("the datastore cannot be used, and is tried again whenever it is needed: %s", error)
    return store


def _connect_store(url: str, clock: Clock | None) -> Datastore:
    parsed = _parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite.SqliteDatastore(_file_path(parsed), clock or SystemClock())
    with _needing_psycopg():
        from echelon.controller.datastore.postgresql import PostgresqlDatastore
    return PostgresqlDatastore(parsed)


def migrate_datastore(url: str) -> str:
    """Migrate a datastore to the schema of this release; return the schema's name."""
    parsed = _parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite.migrate_file(_file_path(parsed))
    with _needing_psycopg():
        from echelon.controller.datastore import postgresql
    return postgresql.migrate_database(parsed)


@contextmanager
def _needing_psycopg() -> Iterator[None]:
    """Turn a missing driver, which is an extra, into advice to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise InvalidInput("a PostgreSQL datastore needs psycopg: pip install 'echelon[postgresql]'") from None


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InvalidInput("the datastore's URL must look like sqlite:///path or postgresql://user@host/name")
    return parsed


def _file_path(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise InvalidInput("an SQLite datastore needs a file: sqlite:///path")
    return Path(url.database)
