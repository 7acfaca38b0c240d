"""Writes this controller's status file, by which workers learn whether it could take tasks away from a silent worker.

A loop of its own: the engine's loop may hang in a database that does not answer, and the file has to say just that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

from echelon.shared.lease import STATUS_CHECKED_EVERY, status_written_every
from echelon.shared.volume.status_files import StatusFile

log = logging.getLogger(__name__)


class StatusWriter:
    """Keeps one controller's status file true."""

    def __init__(self, file: StatusFile, is_able: Callable[[], bool], *, lease: float) -> None:
        self._file = file
        self._looks_per_write = max(1, int(status_written_every(lease) / STATUS_CHECKED_EVERY))
        self._is_able = is_able
        self._written: bool | None = None

    def run(self, stop: Event) -> None:
        """Write the file again and again until told to stop, then remove it."""
        while not stop.is_set():
            self.write_status()
            self._await_change(stop)
        self._file.remove()

    def write_status(self) -> None:
        """Write the file once."""
        able = self._is_able()
        try:
            self._file.write(able=able)
            self._written = able
        except OSError as error:
            log.warning("cannot write this controller's status file on the volume: %s", error)

    def _await_change(self, stop: Event) -> None:
        """Wait until the file is due, or until it is not true any more."""
        for _ in range(self._looks_per_write):
            if stop.wait(STATUS_CHECKED_EVERY) or self._is_able() != self._written:
                return
