"""The datastore on SQLite: one file, one writer at a time, readers beside it.

* Threads of one process queue for a fair lock instead of polling; other processes wait for `BUSY_TIMEOUT`.
* WAL with synchronous=FULL: a commit returns when its WAL frames are on the disk.
* Every read block has its own connection and reads one snapshot.
* Connections must not cross a fork: a datastore that was opened before one refuses to work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from echelon.controller.datastore.cache import JobCache, WorkerKeys
from echelon.controller.datastore.encoding import encode_json
from echelon.controller.datastore.errors import GuardFailed, OutcomeUnknown, StatementRefused
from echelon.controller.datastore.first_use import FirstUse
from echelon.controller.datastore.job_views import ONE_JOB, job_of
from echelon.controller.datastore.migrate import require_schema, upgrade_schema
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.records import JobView
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.fair_lock import FairLock
from echelon.shared.clock import Clock
from echelon.shared.errors import EchelonError, StoreUnavailable
from echelon.shared.ids import JobId

#: A key is never used twice, so that references to a deleted job never match a later one. An earlier release that
#: still runs beside this one does not count in that row, so its insertions are looked at too.
_RESERVE_KEYS = (
    "UPDATE sqlite_sequence SET seq = max(seq, (SELECT coalesce(max(key), 0) FROM stages)) + ?1"
    " WHERE name = 'job_keys' RETURNING seq - ?1 + 1"
)

#: Seconds that another process may hold the write lock.
BUSY_TIMEOUT = 5.0

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    # Overwrite deleted rows, so that no secret stays in a free page.
    "PRAGMA secure_delete=ON",
    "PRAGMA foreign_keys=OFF",
    "PRAGMA temp_store=MEMORY",
    # In pages of 4 KiB. With the default of 1,000 the same hot pages are copied five times as often.
    "PRAGMA wal_autocheckpoint=5000",
    "PRAGMA journal_size_limit=67108864",
)


#: KiB of pages cached by the writer and by each reader; the kernel caches the others. With mmap, a database of a
#: million tasks would count as memory of this process.
_WRITER_CACHE, _READER_CACHE = 16 * 1024, 1024


def open_connection(path: str, *, busy_timeout: float = BUSY_TIMEOUT, cache: int = _WRITER_CACHE) -> sqlite3.Connection:
    """Return a connection with our settings, in autocommit: transactions are begun by hand."""
    connection = sqlite3.connect(
        path, timeout=busy_timeout, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    for pragma in (*_PRAGMAS, f"PRAGMA cache_size=-{cache}"):
        connection.execute(pragma)
    return connection


class SqliteSession:
    """One open transaction on the writer's connection."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._connection = connection
        self._now = now

    def now(self) -> float:
        """Return the store's time, the same throughout the transaction."""
        return self._now

    def fetch_rows(self, statement: Prepared, parameters: Row = ()) -> list[Row]:
        """Run a statement and return its rows."""
        return self._connection.execute(statement.sqlite, parameters).fetchall()

    def send_rows(self, statement: Prepared, *parameters: Row) -> None:
        """Run a statement once per tuple."""
        self._connection.executemany(statement.sqlite, parameters)

    def send_guarded(self, statement: Prepared, parameters: Sequence[Row], complaint: str) -> None:
        """Run a statement once per tuple; each must change one row, or GuardFailed is raised."""
        if parameters and self._connection.executemany(statement.sqlite, parameters).rowcount != len(parameters):
            raise GuardFailed(complaint)

    def verify_guards(self) -> None:
        """Do nothing: every statement has been checked when it ran."""

    def list_parameter(self, values: Collection[Any]) -> object:
        """Return the parameter that `Among` takes for a list of values."""
        return encode_json(list(values))

    def reserve_keys(self, count: int) -> int:
        """Return the first of `count` consecutive keys; the write lock keeps others away."""
        return int(self._connection.execute(_RESERVE_KEYS, (count,)).fetchone()[0])

    def next_number(self, statement: Prepared, job: int) -> int | None:
        """Return the next number in a job's history by this statement."""
        return int(self._connection.execute(statement.sqlite, (job,)).fetchone()[0] or 0) + 1


class SqliteDatastore:
    """A database file. Safe for any thread; a process that forks opens it after the fork."""

    def __init__(self, path: Path, clock: Clock, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._path = str(path)
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._first_use = FirstUse(self._prepare_file)
        self._turns = FairLock()
        self._cache = JobCache()
        self._worker_keys = WorkerKeys()
        self._writer: sqlite3.Connection | None = None
        self._readers: Engine = create_engine(
            "sqlite://",
            creator=self._connect_reader,
            poolclass=QueuePool,
            pool_use_lifo=True,
            # Enough for busy clients: opening a connection costs 3 ms, a read 0.1.
            pool_size=32,
            max_overflow=40,
        )

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Begin a write transaction; leaving the block commits durably, an exception rolls back."""
        self._first_use.prepare_once()
        with self._turns:
            connection = self._begin_write()
            try:
                transaction = Transaction(SqliteSession(connection, self._clock.wall()), self._cache, self._worker_keys)
                yield transaction
                transaction.flush_writes()
            except BaseException as error:
                self._roll_back(connection)
                if isinstance(error, sqlite3.Error):
                    raise translate_error(error) from error
                raise
            self._commit_write(connection)
            transaction.note_commit()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Begin a consistent look."""
        self._first_use.prepare_once()
        with _reading_errors(), self._readers.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield Reader(connection, self._clock.wall)
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def find_job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages, by one statement on the driver's own cursor."""
        self._first_use.prepare_once()
        with _reading_errors(), closing(self._readers.raw_connection()) as pooled:
            return job_of(pooled.cursor().execute(ONE_JOB.sqlite, (job_id,)).fetchall())

    def check(self) -> None:
        """Raise StoreUnavailable when the database does not answer or its schema is not ours."""
        self._first_use.prepare_once()
        try:
            with self._readers.connect() as connection:
                require_schema(connection)
        except DBAPIError as error:
            raise translate_error(error.orig) from error

    def close(self) -> None:
        """Close every connection; this moves the WAL's contents into the file."""
        self._readers.dispose()
        with self._turns:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _prepare_file(self) -> None:
        migrate_file(Path(self._path))

    def _begin_write(self) -> sqlite3.Connection:
        try:
            if self._writer is None:
                self._writer = open_connection(self._path, busy_timeout=self._busy_timeout)
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise translate_error(error) from error
        return self._writer

    def _commit_write(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            if _primary_code(error) == sqlite3.SQLITE_IOERR:
                raise OutcomeUnknown(f"SQLite failed while it committed ({error})") from error
            raise translate_error(error) from error

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Roll back; discard a connection that cannot."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._writer = None
            connection.close()

    def _connect_reader(self) -> sqlite3.Connection:
        connection = open_connection(self._path, cache=_READER_CACHE)
        connection.execute("PRAGMA query_only=ON")
        return connection


@contextmanager
def _reading_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise translate_error(error.orig) from error
    except sqlite3.Error as error:
        raise translate_error(error) from error
    except PoolTimeout as error:
        raise StoreUnavailable("too many requests read the SQLite datastore at once") from error


def _primary_code(error: BaseException | None) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def translate_error(error: BaseException | None) -> EchelonError:
    """Translate an error of the driver."""
    code = _primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable("the disk of the SQLite datastore is full; make room, it goes on by itself")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable("another process holds the SQLite datastore for longer than it may")
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return StatementRefused(f"SQLite refused a statement ({error}): this is a bug of Echelon")
    return StoreUnavailable(f"the SQLite datastore does not work at the moment ({error})")


def migrate_file(path: Path) -> str:
    """Create the file if it is missing and migrate it to the present schema; return the schema's name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only its owner may read it: it holds sealed secrets. Its WAL gets the same mode.
        path.touch(mode=0o600)
        engine = create_engine("sqlite://", creator=lambda: open_connection(str(path)))
        with engine.connect() as connection:
            # Take the write lock first: of two processes that open a new file, one migrates it.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            name = upgrade_schema(connection)
            connection.exec_driver_sql("COMMIT")
        engine.dispose()
        return name
    except DBAPIError as error:
        raise translate_error(error.orig) from error
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"the SQLite datastore {path} cannot be opened ({error})") from error
