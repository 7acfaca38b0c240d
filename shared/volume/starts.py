"""Starts that a worker may die before it tells of: each worker keeps a file of them on the volume.

A task that a lost worker was given ahead has not started, and one that had started is an attempt: its number is never
used again. Only the worker knows which is which. So it writes a line before each start, which the kernel keeps when the
worker is killed, and the controller that gives the worker up reads them. A line costs 2 us; it is not forced to the
disk, so that a power cut may lose the last ones: their numbers are used again then. A start that is refused after its
line was written is handed back and uses no number, unless the worker dies before it tells of that.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Final

from echelon.shared.ids import TaskId, WorkerId
from echelon.shared.messages import AttemptRef
from echelon.shared.volume import layout
from echelon.shared.volume.local import Volume
from echelon.shared.volume.removal import prune_files

_FOLDER: Final = f"{layout.ENGINE}/starts"
#: Bytes of a file, some 8,000 starts; the one before it is kept. No worker holds more at once.
_LONGEST: Final = 512 * 1024
#: Seconds after which a file of another worker is removed.
_KEPT: Final = 24 * 3600.0


class StartLog:
    """The starts of one incarnation of a worker. One thread uses it."""

    def __init__(self, volume: Volume, worker: WorkerId) -> None:
        self._folder = volume.absolute_path(_FOLDER)
        self._path = f"{self._folder}/{worker}"
        self._file = -1
        self._size = 0
        # From now on a task that is not in it has not started. Without a volume nothing starts anyway.
        with contextlib.suppress(OSError):
            self._open_file()
            prune_files(self._folder, older_than=_KEPT)

    def add_start(self, ref: AttemptRef) -> None:
        """Write that an attempt is about to start; raise OSError."""
        if self._file < 0:
            self._open_file()
        if self._size > _LONGEST:
            os.replace(self._path, f"{self._path}.1")
            self._open_file()
        self._size += os.write(self._file, f"{ref.task_id} {ref.attempt} {time.time():.3f}\n".encode())

    def close(self) -> None:
        """Close the file until the next start: a volume without open files can be unmounted."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open_file(self) -> None:
        self.close()
        os.makedirs(self._folder, layout.FOLDER_MODE, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._file).st_size


class StartFiles:
    """The starts of all workers, for controllers. Safe for any thread of any process."""

    def __init__(self, volume: Volume) -> None:
        self._folder = volume.absolute_path(_FOLDER)

    def find_starts(self, worker: WorkerId) -> Mapping[AttemptRef, float] | None:
        """Return what a worker has started last, each with its time (seconds since the epoch); None: it is unknown."""
        path = f"{self._folder}/{worker}"
        try:
            starts = _read_file(path)
            # In this order a file that is put aside meanwhile is read twice, and not missed.
            with contextlib.suppress(FileNotFoundError):
                starts |= _read_file(f"{path}.1")
        except (OSError, ValueError):
            return None
        return starts


def _read_file(path: str) -> dict[AttemptRef, float]:
    found: dict[AttemptRef, float] = {}
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="ascii") as file:
        for line in file.read(2 * _LONGEST).splitlines():
            task_id, _, rest = line.partition(" ")
            attempt, _, at = rest.partition(" ")
            if at:
                found[AttemptRef(TaskId(task_id), int(attempt))] = float(at)
    return found
