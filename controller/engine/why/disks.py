"""Logs when a disk gets full and when it has room again, for people who do not ask /readyz.

A loop of its own: the disk of a network mount may take for ever to answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Event

from echelon.controller.engine.why.health import check_disks

log = logging.getLogger(__name__)

#: Seconds between two looks.
_LOOK_EVERY = 10.0


class DiskWatch:
    """Looks at the disks of some folders."""

    def __init__(self, folders: Sequence[str], least: int) -> None:
        """`least`: the bytes that have to be free on each."""
        self._folders = folders
        self._least = least
        self._had_room = True

    def run(self, stop: Event) -> None:
        """Look from time to time until told to stop."""
        while not stop.wait(_LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Look once; log what has changed since the last look."""
        found = check_disks(self._folders, self._least)
        if found.ok and not self._had_room:
            log.info("the disks have room again: %s", found.detail)
        elif self._had_room and not found.ok:
            log.warning("not ready because of a disk: %s", found.detail)
        self._had_room = found.ok
