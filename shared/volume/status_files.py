"""Status files that controllers keep on the volume: workers learn of controllers without a broker.

A worker whose lease runs out cannot tell whether it alone is cut off (another worker is about to start its tasks, so it
must end them) or whether broker, store or controllers are away for every worker (no other worker will start them, and
to end them would waste hours of work). The volume is the one thing that it still shares with controllers. All times
compared here are times of files, set by the one machine that keeps them; no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from echelon.shared.lease import STATUS_FRESH_FOR
from echelon.shared.volume import layout
from echelon.shared.volume.local import Volume
from echelon.shared.volume.removal import prune_files

_FOLDER: Final = f"{layout.ENGINE}/controllers"
_ABLE, _UNABLE = b"1", b"0"
#: Seconds after which the file of a controller that was killed is removed.
_KEPT: Final = 24 * 3600.0


class StatusFile:
    """One controller's status file."""

    def __init__(self, volume: Volume, name: str) -> None:
        self._folder = volume.absolute_path(_FOLDER)
        self._path = f"{self._folder}/{name}"

    def write(self, *, able: bool) -> None:
        """Say that this controller lives, and whether it could take tasks away from a silent worker. Raises OSError."""
        os.makedirs(self._folder, layout.FOLDER_MODE, exist_ok=True)
        _write_file(self._path, _ABLE if able else _UNABLE)

    def remove(self) -> None:
        """Remove the file: this controller has ended. Those of controllers that were killed go with it in time."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
            prune_files(self._folder, older_than=_KEPT)


class StatusReader:
    """Reads the status files for one worker."""

    def __init__(self, volume: Volume, name: str) -> None:
        self._folder = volume.absolute_path(_FOLDER)
        self._own = f".{name}"

    def any_controller_able(self) -> bool:
        """Tell whether a controller could take this worker's tasks away; True also when the volume does not tell."""
        try:
            now = self._read_clock()
            with os.scandir(self._folder) as entries:
                fresh = [entry.path for entry in entries if _is_fresh(entry, now)]
            return any(_says_able(path) for path in fresh)
        except OSError:
            return True

    def _read_clock(self) -> float:
        """Return the present time by the clock that dates the files."""
        path = f"{self._folder}/{self._own}"
        _write_file(path, _UNABLE)
        try:
            return os.stat(path).st_mtime
        finally:
            os.unlink(path)


def _is_fresh(entry: os.DirEntry[str], now: float) -> bool:
    return not entry.name.startswith(".") and now - entry.stat(follow_symlinks=False).st_mtime <= STATUS_FRESH_FOR


def _says_able(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # A file that is being written at this moment is empty: its controller lives, so it counts.
        return os.read(fd, 1) != _UNABLE
    finally:
        os.close(fd)


def _write_file(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
