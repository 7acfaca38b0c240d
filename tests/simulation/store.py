"""The real datastore on a file in memory, with faults at its transactions, and a diary of every change of a state.

The diary is written by triggers, in the transactions themselves: it holds what was committed, in the order of commits.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from echelon.controller.datastore import sqlite
from echelon.controller.datastore.errors import OutcomeUnknown
from echelon.controller.datastore.sqlite import SqliteDatastore
from echelon.shared.clock import Clock
from echelon.shared.errors import StoreUnavailable
from tests.simulation.world import Actor, Killed, World

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None

#: Bytes of a page: rows are few and small, and a commit copies every page that it has touched.
_PAGE = 1024

_COMPILED: dict[object, object] = {}

DIARY = """
CREATE TABLE diary (
    seq INTEGER PRIMARY KEY, at REAL, kind TEXT, key INTEGER, before TEXT, after TEXT,
    attempt INTEGER, worker INTEGER, lease_until REAL, started_at REAL, turn INTEGER,
    losses INTEGER
);
CREATE TABLE line (turn INTEGER, stage INTEGER, waits INTEGER, queue TEXT, priority INTEGER);
CREATE TRIGGER line_new AFTER INSERT ON stages BEGIN
    INSERT INTO line VALUES (turn(), new.key, new.ready > 0, new.claim_queue, -new.claim_rank);
END;
CREATE TRIGGER line_changes AFTER UPDATE OF ready, claim_queue, claim_rank ON stages
WHEN (old.ready > 0) <> (new.ready > 0) OR old.claim_queue <> new.claim_queue OR old.claim_rank <> new.claim_rank BEGIN
    INSERT INTO line VALUES (turn(), new.key, new.ready > 0, new.claim_queue, -new.claim_rank);
END;
CREATE TRIGGER diary_jobs AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    INSERT INTO diary (at, kind, key, before, after) VALUES (now(), 'job', new.key, old.state, new.state);
END;
CREATE TRIGGER diary_stages AFTER UPDATE OF state ON stages WHEN old.state <> new.state BEGIN
    INSERT INTO diary (at, kind, key, before, after) VALUES (now(), 'stage', new.key, old.state, new.state);
END;
CREATE TRIGGER diary_tasks AFTER UPDATE OF state, attempt, lease_until, started_at ON tasks
WHEN old.state <> new.state OR old.attempt <> new.attempt OR old.lease_until IS NOT new.lease_until
OR old.started_at IS NOT new.started_at BEGIN
    INSERT INTO diary (at, kind, key, before, after, attempt, worker, lease_until, started_at, turn, losses)
    VALUES (
        now(), 'task', new.key, old.state, new.state, new.attempt, new.worker, new.lease_until - skew(), new.started_at,
        turn(), new.losses
    );
END;
CREATE TRIGGER diary_new_tasks AFTER INSERT ON tasks BEGIN
    INSERT INTO diary (at, kind, key, before, after) VALUES (now(), 'task', new.key, NULL, new.state);
END;
"""


class StoreFile:
    """The database file of one run; copies of an empty one are cheap."""

    _template: Path | None = None

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="echelon-sim-", dir=MEMORY))
        self.path = self.folder / "store.db"
        if StoreFile._template is None:
            StoreFile._template = _make_template()
            atexit.register(_remove_template)
        shutil.copyfile(StoreFile._template, self.path)
        self._free: list[sqlite3.Connection] = []
        #: Number of the transaction that writes.
        self.turn = 0

    def connect(self) -> sqlite3.Connection:
        """Return a connection for those who look on."""
        return sqlite3.connect(self.path, timeout=0.0, isolation_level=None)

    def borrow(self) -> sqlite3.Connection | None:
        """Return a connection that another life has left behind, as good as new; None when there is none."""
        return self._free.pop() if self._free else None

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Take the connection of a life that has ended; what it had begun is rolled back."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._free.append(connection)

    def remove(self) -> None:
        for connection in self._free:
            connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _remove_template() -> None:
    if StoreFile._template is not None:
        shutil.rmtree(StoreFile._template.parent, ignore_errors=True)
        StoreFile._template = None


def _make_template() -> Path:
    path = Path(tempfile.mkdtemp(prefix="echelon-sim-", dir=MEMORY)) / "template.db"
    sqlite.migrate_file(path)
    connection = sqlite3.connect(path)
    connection.executescript(DIARY)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute(f"PRAGMA page_size={_PAGE}")
    connection.execute("VACUUM")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


class SimDatastore(SqliteDatastore):
    """One controller's view of the store."""

    def __init__(self, file: StoreFile, clock: Clock, *, world: World, actor: Actor) -> None:
        super().__init__(file.path, clock)
        self._file = file
        # Statements are compiled once, not once for every life of a controller.
        self._readers = self._readers.execution_options(compiled_cache=_COMPILED)
        self._world = world
        self._actor = actor
        self._changes = 0
        self._busy = False
        #: Entered for every commit that changes something, by those who look on.
        self._around: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        #: Called with the moment of every commit that a process is in, for those who watch.
        self.on_commit: Callable[[], None] = lambda: None
        actor.process.at_death.append(self.die)

    def die(self) -> None:
        """Let go as a process that is killed does: what is open is rolled back."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._file.give_back(writer)
        self._readers.dispose()

    @contextlib.contextmanager
    def watched(self, around: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
        """Run `around` at every commit for a while."""
        self._around = around
        try:
            yield
        finally:
            self._around = contextlib.nullcontext

    def _prepare_file(self) -> None:
        """Do nothing: the file is a copy of one that has the schema."""

    def _begin_write(self) -> sqlite3.Connection:
        if self._actor.process.dead:
            raise Killed
        fault = self._world.strike("store.begin") if self._busy else None
        if fault is not None and fault.kind == "unavailable":
            raise StoreUnavailable("simulated: the database does not answer")
        self._world.suffer(self._actor, fault)
        if self._writer is None:
            # To open one costs as much as thirty transactions: it has to read the schema.
            self._writer = self._file.borrow() or self._open()
        connection = super()._begin_write()
        self._file.turn += 1
        self._changes = connection.total_changes
        return connection

    def _commit_write(self, connection: sqlite3.Connection) -> None:
        self._busy = connection.total_changes != self._changes
        fault = self._world.strike("store.commit") if self._busy else None
        kind = fault.kind if fault else ""
        if kind == "refused":
            self._roll_back(connection)
            raise StoreUnavailable("simulated: the commit was refused")
        if kind == "kill_before":
            self._world.kill(self._actor.process)
            raise Killed
        if fault is not None and kind == "pause_before":
            with contextlib.suppress(Killed):
                self._world.pause(self._actor, fault.seconds)
            if self._actor.process.dead:
                raise Killed
        with self._around() if self._busy else contextlib.nullcontext():
            super()._commit_write(connection)
        if self._busy:
            self.on_commit()
        if kind == "ambiguous":
            raise OutcomeUnknown("simulated: the connection was lost during the commit")
        if kind == "kill_after":
            self._world.kill(self._actor.process)
            raise Killed
        if fault is not None and kind == "pause_after":
            self._world.pause(self._actor, fault.seconds)

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._open()
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=0.0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        # This machine cannot lose its power: a real store would have to wait for its disk here.
        connection.execute("PRAGMA synchronous=OFF")
        connection.create_function("now", 0, lambda: self._world.now)
        connection.create_function("turn", 0, lambda: self._file.turn)
        connection.create_function("skew", 0, lambda: self._world.store_skew)
        return connection
