"""Database connections do not survive a fork: parent and child would talk on the same one."""

from __future__ import annotations

import os

from echelon.shared.errors import EchelonError


class ForkGuard:
    """Remembers the process that it was made in."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def check(self) -> None:
        """Raise EchelonError in any other process."""
        if os.getpid() != self._pid:
            raise EchelonError("the datastore was opened before a fork; open it in the process that uses it")
