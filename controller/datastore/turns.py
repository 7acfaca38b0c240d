"""A lock that is given on in the order in which it was asked for.

The lock of `threading` goes to whoever comes first after its release, nearly always the thread that has just released
it: the engine's loop would keep the API's submissions waiting for as long as it has work.
"""

from __future__ import annotations

from collections import deque
from threading import Lock, get_ident

from echelon.shared.errors import EchelonError

#: Stands for the thread that has been let in and has not run yet; no thread has this number.
_NOBODY_ELSE = -1


class Turns:
    """Lets one thread in at a time, first come first served."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._waiting: deque[Lock] = deque()
        self._owner: int | None = None

    @property
    def waiting(self) -> int:
        """Return how many threads wait."""
        return len(self._waiting)

    def __enter__(self) -> None:
        with self._guard:
            if self._owner == get_ident():
                raise EchelonError("this thread is in a write transaction already (a bug of Echelon)")
            if self._owner is None:
                self._owner = get_ident()
                return
            turn = Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            # Ctrl-C: nobody may be left waiting for a thread that has gone.
            with self._guard:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._pass_on()
            raise
        self._owner = get_ident()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            # Not free in between: the next one has it from now on.
            self._owner = _NOBODY_ELSE
            self._waiting.popleft().release()
        else:
            self._owner = None
