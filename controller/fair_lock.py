"""A lock that threads get in the order in which they asked for it.

Python's own lock goes to any thread that wants it, nearly always to the one that has just released it: the engine's
loop would keep the API's submissions waiting for as long as it has work, and each of many threads that answer requests
would have as large a share of the processor as the engine. A thread that waits here does not compete.
"""

from __future__ import annotations

import threading
from collections import deque

from echelon.shared.errors import EchelonError


class FairLock:
    """Lets `at_once` threads in at a time. A thread that has waited for `patience` seconds goes on without the lock.

    With patience no thread is stopped for long by others that keep the lock while they wait for something else.
    """

    def __init__(self, at_once: int = 1, *, patience: float | None = None) -> None:
        self._timeout = -1.0 if patience is None else patience
        self._lock = threading.Lock()
        self._free = at_once
        self._line: deque[threading.Lock] = deque()
        self._mine = threading.local()

    @property
    def waiting(self) -> int:
        """Return how many threads wait."""
        return len(self._line)

    def acquire(self) -> None:
        """Wait for the lock; `release` has to follow. A thread that has the lock already gets EchelonError."""
        if getattr(self._mine, "held", False):
            raise EchelonError("this thread holds the lock already (a bug of Echelon)")
        with self._lock:
            if self._free:
                self._free -= 1
                self._mine.held = True
                return
            called = threading.Lock()
            called.acquire()
            self._line.append(called)
        try:
            self._mine.held = called.acquire(timeout=self._timeout) or not self._leave_line(called)
        except BaseException:
            # Ctrl-C: the others must not wait for a thread that has gone.
            if not self._leave_line(called):
                self._pass_on()
            raise

    def release(self) -> None:
        """Hand the lock to the first thread in line; does nothing for a thread that does not hold it."""
        if getattr(self._mine, "held", False):
            self._mine.held = False
            self._pass_on()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _pass_on(self) -> None:
        with self._lock:
            # Not free in between: no other thread can come before the first in line.
            if self._line:
                self._line.popleft().release()
            else:
                self._free += 1

    def _leave_line(self, called: threading.Lock) -> bool:
        """Stop waiting; False when the lock was handed over at the last moment."""
        with self._lock:
            if called not in self._line:
                return False
            self._line.remove(called)
            return True
