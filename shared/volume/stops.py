"""Attempts that have lost their claim while no message could tell their workers: names of files on the volume.

A worker that cannot renew its leases goes on while no controller could take its tasks away (`status_files`). Tasks that
a person has ended meanwhile are the exception: they must not go on while the broker is away.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Final

from echelon.shared.messages import AttemptRef
from echelon.shared.volume import layout
from echelon.shared.volume.local import Volume
from echelon.shared.volume.removal import prune_files

log = logging.getLogger(__name__)

_FOLDER: Final = f"{layout.ENGINE}/stops"
#: Seconds after which no worker can hold the attempt any more.
_KEPT: Final = 7 * 24 * 3600.0


class StopFiles:
    """The signs of all attempts. Safe for any thread of any process."""

    def __init__(self, volume: Volume) -> None:
        self._folder = volume.absolute_path(_FOLDER)

    def write_stops(self, refs: Iterable[AttemptRef]) -> None:
        """Write a stop file for each attempt; a missing volume is no error."""
        try:
            os.makedirs(self._folder, layout.FOLDER_MODE, exist_ok=True)
            for ref in refs:
                os.close(os.open(self._path_of(ref), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640))
            prune_files(self._folder, older_than=_KEPT)
        except OSError as error:
            log.warning("no sign could be left for workers that cannot be told: %s", error)

    def is_stopped(self, ref: AttemptRef) -> bool:
        """Tell whether an attempt has lost its claim; False also when the volume does not tell."""
        try:
            return os.path.lexists(self._path_of(ref))
        except OSError:
            return False

    def _path_of(self, ref: AttemptRef) -> str:
        return f"{self._folder}/{ref.task_id}.{ref.attempt}"
