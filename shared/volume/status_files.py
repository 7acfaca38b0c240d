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

    def __init__(self, volume: Volume, name: str, *, fresh_for: float = STATUS_FRESH_FOR) -> None:
        """`fresh_for`: for how many seconds the file counts after it was written."""
        self._folder = volume.absolute_path(_FOLDER)
        self._path = f"{self._folder}/{name}"
        self._fresh_for = b"%.3f" % fresh_for

    def write(self, *, able: bool) -> None:
        """Say that this controller lives, and whether it could take tasks away from a silent worker. Raises OSError."""
        os.makedirs(self._folder, layout.FOLDER_MODE, exist_ok=True)
        _write_file(self._path, (_ABLE if able else _UNABLE) + b" " + self._fresh_for)

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
                paths = [entry.path for entry in entries if not entry.name.startswith(".")]
            return any(_says_able(path, now) for path in paths)
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


def _says_able(path: str, now: float) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Asked of the open file: NFS asks its server when a file is opened, and may tell an old time before.
        age = now - os.fstat(fd).st_mtime
        # A file that is being written at this moment is empty: its controller lives, so it counts.
        said, _, fresh_for = os.read(fd, 32).partition(b" ")
    finally:
        os.close(fd)
    return said != _UNABLE and age <= _read_seconds(fresh_for)


def _read_seconds(written: bytes) -> float:
    """Return for how long a file counts by its own words; an earlier release writes none."""
    try:
        return min(float(written), STATUS_FRESH_FOR)
    except ValueError:
        return STATUS_FRESH_FOR


def _write_file(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
