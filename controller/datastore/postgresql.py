"""The datastore on PostgreSQL: several controllers at once, each job locked by its row.

* READ COMMITTED with guarded statements; jobs are locked in the order of their keys, so that locks do not cross.
* A transaction that loses a deadlock raises TransactionAborted; a connection that breaks inside COMMIT raises
  OutcomeUnknown; everything else that is not a bug raises StoreUnavailable.
* Time is the server's `clock_timestamp()`, taken once in a transaction.
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import psycopg
from psycopg import errors as pg
from sqlalchemy import Engine, PoolProxiedConnection, create_engine, event, func, text
from sqlalchemy import select as selection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from echelon.controller.datastore.cache import JobCache, WorkerKeys
from echelon.controller.datastore.errors import GuardFailed, OutcomeUnknown, StatementRefused, TransactionAborted
from echelon.controller.datastore.first_use import FirstUse
from echelon.controller.datastore.job_views import ONE_JOB, job_of
from echelon.controller.datastore.migrate import require_schema, upgrade_schema
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.records import JobView
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.errors import EchelonError, InvalidInput, StoreUnavailable
from echelon.shared.ids import JobId

_encoder = msgspec.json.Encoder()

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
_RESERVE = "SELECT nextval('job_keys') FROM generate_series(1, %s)"

#: A statement that takes longer waits for a lock that is never released; the loops try again.
_TIMEOUTS = "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"
#: Each of our statements has its index. Left to itself the planner reads a whole table while that is small, and a
#: prepared statement keeps the plan when it no longer is: measured, 125 ms instead of 0.5 for 300 tasks of 50,000.
#: With plans fixed like that, a plan per value is only the cost of planning (100 microseconds a statement).
_PLANS = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
    " -c plan_cache_mode=force_generic_plan"
)
_CONNECT = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "echelon",
    # A database made without a locale says SQL_ASCII, and text would come as bytes.
    "client_encoding": "utf8",
}
#: Seconds of rest after which a connection is tested before it is used to write.
_RESTED = 5.0
#: Any number, the same for every release: two migrations never run at once.
_MIGRATION_LOCK = 4_903_127_001


class PostgresqlSession:
    """One open transaction on a connection of the pool, in the driver's pipeline mode.

    A statement without an awaited result is only sent; its result arrives with that of the next awaited one, which
    halves the round trips of a step of a job. The time comes with the first rows: it is the moment at which the
    first locks were granted.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._now: float | None = None
        self._guarded: list[tuple[psycopg.Cursor[Any], int, str]] = []

    def now(self) -> float:
        """Return the server's time, the same throughout the transaction."""
        if self._now is None:
            self._now = float(self._connection.execute(_NOW).fetchall()[0][0])
        return self._now

    def fetch_rows(self, statement: Prepared, parameters: Row = ()) -> list[Row]:
        """Run a statement and return its rows."""
        cursor = self._connection.execute(statement.postgresql, parameters)
        self.now()
        return cursor.fetchall()

    def send_rows(self, statement: Prepared, *parameters: Row) -> None:
        """Send a statement for all tuples at once; the next awaited statement raises its error."""
        self._send_statement(statement, parameters)

    def send_guarded(self, statement: Prepared, parameters: Sequence[Row], complaint: str) -> None:
        """Send a statement for all tuples at once; `verify_guards` tells when it has not changed one row for each."""
        if parameters:
            self._guarded.append((self._send_statement(statement, parameters), len(parameters), complaint))

    def verify_guards(self) -> None:
        """Raise GuardFailed for the first statement that did not change the rows that it had to change."""
        # The count is -1 until the result is there.
        if any(cursor.rowcount < 0 for cursor, _, _ in self._guarded):
            self._await_results()
        for cursor, expected, complaint in self._guarded:
            if cursor.rowcount != expected:
                raise GuardFailed(complaint)
        self._guarded.clear()

    def _await_results(self) -> None:
        # Not `Pipeline.sync()`: psycopg 3.3 waits there for an answer without having sent all of a large batch first,
        # and the server waits for the rest of it. A fetch sends everything before it waits.
        self._connection.execute("SELECT 1").fetchall()

    def _send_statement(self, statement: Prepared, parameters: Sequence[Row]) -> psycopg.Cursor[Any]:
        if len(parameters) == 1:
            return self._connection.execute(statement.postgresql, parameters[0])
        names = statement.parameters
        records = _encoder.encode([dict(zip(names, row, strict=True)) for row in parameters]).decode()
        return self._connection.execute(statement.postgresql_many, (records,))

    def list_parameter(self, values: Collection[Any]) -> object:
        """Return the parameter that `Among` takes for a list of values."""
        return list(values)

    def reserve_keys(self, count: int) -> int:
        """Return the first of `count` consecutive keys."""
        while True:
            cursor = self._connection.execute(_RESERVE, (count,))
            self.now()
            keys = [row[0] for row in cursor.fetchall()]
            # Another submission may have drawn from the sequence in between: draw again, gaps cost nothing.
            if keys[-1] - keys[0] == count - 1:
                return int(keys[0])

    def next_number(self, statement: Prepared, job: int) -> int | None:
        """Return None: the sequence counts."""
        return None


class PostgresqlDatastore:
    """A database on a PostgreSQL server. Safe for any thread; a process that forks opens it after the fork."""

    def __init__(self, url: URL) -> None:
        self._first_use = FirstUse(self._require_schema)
        # Writers begin and commit by hand: the driver's own BEGIN would wait for an answer.
        self._writing = _make_engine(url, isolation_level="AUTOCOMMIT", ping=False)
        event.listen(self._writing, "checkout", _see_that_it_lives)
        event.listen(self._writing, "checkin", _note_when)
        readers = _make_engine(url)
        self._reading = readers.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._cache = JobCache()
        self._worker_keys = WorkerKeys()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Begin a write transaction; leaving the block commits durably, an exception rolls back."""
        self._first_use.prepare_once()
        with _translating_errors():
            pooled = self._writing.raw_connection()
        connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
        committing = False
        try:
            with _translating_errors(), connection.pipeline():
                connection.execute("BEGIN")
                session = PostgresqlSession(connection)
                transaction = Transaction(session, self._cache, self._worker_keys)
                yield transaction
                transaction.flush_writes()
                committing = True
                # The end of the pipeline waits for its result.
                connection.execute("COMMIT")
            transaction.note_commit()
        except StoreUnavailable as error:
            if committing and connection.closed:
                raise OutcomeUnknown(
                    "the PostgreSQL server was lost during a commit: it is not known whether it took effect"
                ) from error
            raise
        finally:
            _give_back(pooled, connection)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Begin a consistent look."""
        self._first_use.prepare_once()
        with _translating_errors(), self._reading.connect() as connection:
            yield Reader(connection, lambda: float(connection.execute(text(_NOW)).scalar_one()))

    def find_job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages: one statement, one round trip."""
        self._first_use.prepare_once()
        with _translating_errors():
            pooled = self._writing.raw_connection()
        connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
        try:
            with _translating_errors():
                return job_of(connection.execute(ONE_JOB.postgresql, (job_id,)).fetchall())
        finally:
            _give_back(pooled, connection)

    def check(self) -> None:
        """Raise StoreUnavailable when the database does not answer or its schema is not ours."""
        self._first_use.prepare_once()
        self._require_schema()

    def close(self) -> None:
        """Let go of every connection."""
        self._writing.dispose()
        self._reading.dispose()

    def _require_schema(self) -> None:
        with _translating_errors(), self._reading.connect() as connection:
            require_schema(connection)


def migrate_database(url: URL) -> str:
    """Migrate the database to the present schema; return the schema's name."""
    engine = _make_engine(url)
    try:
        with _translating_errors(), engine.begin() as connection:
            connection.execute(selection(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            # A change of a large table may take longer than any everyday statement.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            return upgrade_schema(connection)
    finally:
        engine.dispose()


def _make_engine(
    url: URL, *, isolation_level: Literal["AUTOCOMMIT", "READ COMMITTED"] = "READ COMMITTED", ping: bool = True
) -> Engine:
    asked = url.query.get("options", "")
    options = f"{_TIMEOUTS} {_PLANS} {asked if isinstance(asked, str) else ' '.join(asked)}".strip()
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={**_CONNECT, "options": options},
        isolation_level=isolation_level,
        pool_pre_ping=ping,
        pool_use_lifo=True,
        # All connections are kept, and a request waits for a free one: opening one costs more than a request.
        pool_size=12,
        max_overflow=0,
        pool_timeout=10,
    )


def _see_that_it_lives(connection: psycopg.Connection[Any], record: Any, proxy: object) -> None:
    """Refuse a connection that the server has closed; the pool then makes another.

    A closed connection has something to read, so an open one costs no round trip. Only after a long rest is it asked:
    a firewall or proxy may have dropped it. A new one is taken as it is: if the server ends it at once, its first
    statement tells why, which the pool does not when it gives up.
    """
    used_at = record.info.get("used_at")
    if used_at is None:
        return
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            raise DisconnectionError("the server has closed this connection")
        if time.monotonic() - used_at > _RESTED:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        raise DisconnectionError from error


def _note_when(connection: object, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _give_back(pooled: PoolProxiedConnection, connection: psycopg.Connection[Any]) -> None:
    """Return a connection to the pool, which rolls back an open transaction; discard a broken one."""
    if connection.closed:
        pooled.invalidate()
    pooled.close()


@contextmanager
def _translating_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate_error(error) from error
    except DBAPIError as error:
        raise translate_error(error.orig) from error
    except PoolTimeout as error:
        raise StoreUnavailable("all connections to the PostgreSQL server are in use") from error


#: Words in the driver's message, alternatives between bars -> what is wrong and what to do. Waiting mends none of it.
_CAUSES = {
    "password authentication failed|no password supplied": "PostgreSQL refuses the user or the password of the"
    " datastore's URL: correct it (ECHELON_DATASTORE, ECHELON_DATASTORE_FILE) and start again, or change the user in"
    " PostgreSQL",
    "role ... does not exist": "PostgreSQL does not know the user of the datastore's URL: createuser",
    "database ... does not exist": "PostgreSQL has no database of that name: createdb, then 'echelon migrate'",
    "no pg_hba.conf entry|authentication failed": "PostgreSQL does not let this user in from this host: see its"
    " pg_hba.conf",
    "permission denied": "the user of the datastore's URL lacks a right in PostgreSQL: make it the database's owner",
    "certificate verify failed|root certificate": "the certificate of the PostgreSQL server is not trusted: name the"
    " authority's with ?sslrootcert=FILE",
    "server certificate for ... does not match": "the certificate of the PostgreSQL server is for another host: name"
    " the host in the datastore's URL as the certificate does",
    "does not support SSL": "the PostgreSQL server speaks no TLS, and the datastore's URL asks for it (sslmode)",
    "could not translate host name|failed to resolve host|name or service not known": "there is no host of that name"
    " for PostgreSQL: correct the datastore's URL",
    "connection refused": "nothing listens where PostgreSQL should be: it is not up, or the URL names another port",
}


def translate_error(error: BaseException | None) -> EchelonError:
    """Translate an error of the driver."""
    match error:
        case pg.SerializationFailure() | pg.DeadlockDetected():
            return TransactionAborted(f"PostgreSQL gave way to another transaction ({_first_line(error)})")
        case pg.UniqueViolation() if error.diag.constraint_name == "job_inputs_idempotency_key_key":
            return TransactionAborted("the same Idempotency-Key was used by another request at the same moment")
        case pg.DiskFull():
            return StoreUnavailable("the disk of the PostgreSQL server is full; make room, it goes on by itself")
        case pg.QueryCanceled() | pg.LockNotAvailable():
            return StoreUnavailable(f"PostgreSQL took too long ({_first_line(error)})")
        case psycopg.ProgrammingError() if _mentions(str(error), "invalid connection option"):
            return InvalidInput(f"an option in the datastore's URL cannot be used ({_first_line(error)}): correct it")
        case psycopg.IntegrityError() | psycopg.ProgrammingError() | psycopg.DataError() | psycopg.NotSupportedError():
            return StatementRefused(f"PostgreSQL refused a statement ({_first_line(error)}): this is a bug of Echelon")
        case _:
            words = _first_line(error)
            known = (cause for text, cause in _CAUSES.items() if _mentions(words, text))
            return StoreUnavailable(f"{next(known, 'the PostgreSQL server does not answer at the moment')} ({words})")


def _mentions(words: str, text: str) -> bool:
    """Tell whether one of the alternatives stands in the words; anything may stand at its dots."""
    lower = words.lower()
    return any(all(part in lower for part in one.lower().split("...")) for one in text.split("|"))


def _first_line(error: BaseException | None) -> str:
    """Return the first line of the driver's message; the others may show values."""
    return str(error).strip().split("\n")[0]
