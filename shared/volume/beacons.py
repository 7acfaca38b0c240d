"""Signs of life that controllers leave on the volume: a way to learn of each other that needs no broker.

A worker whose lease runs out cannot tell whether it alone is cut off (then another worker is about to start its tasks,
and it must end them) or whether broker, store or controllers are away for everybody (then nobody will, and hours of
work would be thrown away for nothing). The volume is the one thing it still shares with them. All times compared here
are times of files, set by the one machine that keeps them; no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from echelon.shared.volume import layout
from echelon.shared.volume.local import Volume

_FOLDER: Final = f"{layout.ENGINE}/controllers"
#: Seconds after which a sign counts no more: its controller is gone. It fades before a worker that nobody hears looks,
#: or the sign of a controller that was killed would end tasks that nobody can take away.
FRESH: Final = 5.0
#: Seconds between two signs of a controller that says the same as before.
EVERY: Final = 2.0
#: Seconds beyond a lease that a worker has, when controllers can hear again after nobody could: its own way back to the
#: broker may be longer than theirs, and a broker that has just started is slow.
WAY_BACK: Final = 10.0
_ABLE, _UNABLE = b"1", b"0"


class Beacon:
    """One controller's sign."""

    def __init__(self, volume: Volume, name: str) -> None:
        self._folder = volume.absolute(_FOLDER)
        self._path = f"{self._folder}/{name}"

    def show(self, *, able: bool) -> None:
        """Say that this controller lives, and whether it could take tasks away from a silent worker. Raises OSError."""
        os.makedirs(self._folder, layout.FOLDER_MODE, exist_ok=True)
        _write(self._path, _ABLE if able else _UNABLE)

    def douse(self) -> None:
        """Take the sign away: this controller has ended."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)


class Lookout:
    """One worker's eye on the beacons."""

    def __init__(self, volume: Volume, name: str) -> None:
        self._folder = volume.absolute(_FOLDER)
        self._own = f".{name}"

    def anyone_able(self) -> bool:
        """Tell whether some controller could take this worker's tasks away; True also when the volume does not tell."""
        try:
            now = self._now()
            with os.scandir(self._folder) as entries:
                signs = [entry.path for entry in entries if _is_fresh(entry, now)]
            return any(_says_able(path) for path in signs)
        except OSError:
            return True

    def _now(self) -> float:
        """Return the present time by the clock that the signs are dated with."""
        path = f"{self._folder}/{self._own}"
        _write(path, _UNABLE)
        try:
            return os.stat(path).st_mtime
        finally:
            os.unlink(path)


def _is_fresh(entry: os.DirEntry[str], now: float) -> bool:
    return not entry.name.startswith(".") and now - entry.stat(follow_symlinks=False).st_mtime <= FRESH


def _says_able(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # A sign that is being written at this moment is empty: its controller lives, so it counts.
        return os.read(fd, 1) != _UNABLE
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
