"""Turns for threads that compute: a few at a time, the others in the order of their coming.

Python's lock goes to any of the threads that want it: each of many that answer requests has as large a share of it as
the engine has, and none is sure of its own. Those that stand in line here do not want it.
"""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """Gives a turn to `at_once` threads. Whoever has waited for `patience` seconds goes on without one.

    So nobody is stopped for long by others that hold theirs while they wait for something else.
    """

    def __init__(self, at_once: int, *, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._free = at_once
        self._line: deque[threading.Lock] = deque()
        self._mine = threading.local()

    def take(self) -> None:
        """Wait for a turn; `give` has to follow."""
        with self._lock:
            if self._free:
                self._free -= 1
                self._mine.turn = True
                return
            called = threading.Lock()
            called.acquire()
            self._line.append(called)
        # Whoever gives a turn back hands it to the first in line: nobody can come in between.
        self._mine.turn = called.acquire(timeout=self._patience) or not self._left(called)

    def give(self) -> None:
        """Give this thread's turn back, if it has one."""
        if not getattr(self._mine, "turn", False):
            return
        self._mine.turn = False
        with self._lock:
            if self._line:
                self._line.popleft().release()
            else:
                self._free += 1

    def _left(self, called: threading.Lock) -> bool:
        """Leave the line; False when the turn came at the last moment."""
        with self._lock:
            if called not in self._line:
                return False
            self._line.remove(called)
            return True
