"""Conditions for the use of a datastore: it has our schema, and no fork came after it was opened."""

from __future__ import annotations

import os
from collections.abc import Callable

from echelon.shared.errors import EchelonError


class FirstUse:
    """Prepares a database before it is used for the first time, as soon as it answers.

    After a power cut everything starts at once: a controller may be up before its database is. Until `prepare` has
    succeeded, every use tries it and raises what it raises.
    """

    def __init__(self, prepare: Callable[[], object]) -> None:
        self._prepare = prepare
        self._prepared = False
        self._pid = os.getpid()

    def prepare_once(self) -> None:
        """Raise what keeps the database from being used: StoreUnavailable, or EchelonError after a fork."""
        # Database connections do not survive a fork: parent and child would talk on the same one.
        if os.getpid() != self._pid:
            raise EchelonError("the datastore was opened before a fork; open it in the process that uses it")
        if not self._prepared:
            self._prepare()
            self._prepared = True
