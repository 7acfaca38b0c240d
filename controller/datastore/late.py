"""Stands for a datastore that may be away when its user starts: after a power cut everything starts at once.

Until it has been opened, whoever asks hears at once that it is away; a loop of its own opens it as soon as it answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.records import JobView
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.errors import EchelonError, StoreUnavailable
from echelon.shared.ids import JobId

log = logging.getLogger(__name__)

#: Seconds between two looks.
_RETRY = 0.3


class LateDatastore:
    """A datastore that is opened when it comes. Safe for any thread; a process that forks makes it after the fork."""

    def __init__(self, open_: Callable[[], Datastore]) -> None:
        self._open = open_
        self._store: Datastore | None = None
        self._why: EchelonError = StoreUnavailable("the datastore has not answered yet")
        self._looked = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="datastore", daemon=True)
        self._thread.start()

    def first_look(self, timeout: float) -> None:
        """Wait for the first look, up to `timeout` seconds; raise what it found, unless that it is away."""
        self._looked.wait(timeout)
        if self._store is None and type(self._why) is not StoreUnavailable:
            raise self._why

    def write(self) -> AbstractContextManager[Transaction]:
        """Begin a write transaction."""
        return self._opened().write()

    def read(self) -> AbstractContextManager[Reader]:
        """Begin a consistent look."""
        return self._opened().read()

    def job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages."""
        return self._opened().job(job_id)

    def check(self) -> None:
        """Raise StoreUnavailable when the database does not answer or its schema is not ours."""
        self._opened().check()

    def close(self) -> None:
        """Let go of every connection, or look for it no more."""
        self._closed.set()
        # A look at a server that does not answer may last longer; it ends with the process.
        self._thread.join(_RETRY)
        if self._store is not None:
            self._store.close()

    def _opened(self) -> Datastore:
        if self._store is None:
            raise StoreUnavailable(str(self._why))
        return self._store

    def _run(self) -> None:
        while not self._look():
            if self._closed.wait(_RETRY):
                return

    def _look(self) -> bool:
        """Try to open it; return whether that went well."""
        try:
            store = self._open()
        except EchelonError as error:
            if str(error) != str(self._why):
                log.warning("waiting for the datastore: %s", error)
            self._why = error
            return False
        except Exception:
            log.exception("the datastore cannot be opened; it is tried again")
            return False
        else:
            self._store = store
            log.info("the datastore is open")
            return True
        finally:
            self._looked.set()
