"""One incarnation of a worker on its host: its id, and the dead incarnations of the same name.

The worker's state folder has a lock file with the ids of incarnations whose death has not been reported. The kernel
frees the lock when the process dies, in any way. A worker that gets the lock knows that the listed ones are dead: their
attempts can run again at once instead of after a lease. The file's modification time is that of the last confirmed
heartbeat, for a monitor of the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path

from echelon.shared.errors import Conflict, Unavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import WorkerId, is_uuid, new_worker_id

#: Most incarnations in the file: the leases of older ones ended long ago.
REMEMBERED = 32
#: Seconds between two attempts to get the lock.
_TRY_AGAIN = 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Incarnation:
    """The lock on a worker's name, held by one incarnation of it.

    `patience`: longest wait, in seconds, for the end of an earlier incarnation.
    """

    def __init__(self, state_dir: Path, name: str, *, patience: float = 0.0) -> None:
        if not _NAME.fullmatch(name):
            raise Conflict(f"{name!r} cannot be a worker's name; use letters, digits, dots, dashes and underscores")
        self.id = new_worker_id()
        self._path = state_dir / f"worker-{name}.lock"
        self._file = _open_locked(self._path, name, patience)
        failpoint("life.after_lock")
        #: Dead incarnations that have not been reported.
        self.earlier = self._read_ids()
        self._write_ids([*self.earlier, self.id])
        failpoint("life.after_write")
        # No heartbeat has been confirmed yet, although this file was just written.
        os.utime(self._file, (0, 0))

    def record_heartbeat(self) -> None:
        """Record that the broker has just confirmed a heartbeat. Any thread may call it."""
        # The file may be closed at any moment; then the time no longer matters.
        with contextlib.suppress(OSError):
            os.utime(self._file)

    def forget_earlier(self) -> None:
        """Remove the earlier incarnations from the file: their death has been reported."""
        failpoint("life.before_buried")
        self._write_ids([self.id])

    def release_name(self, *, deregistered: bool) -> None:
        """Free the name; `deregistered`: the controllers know that this incarnation has ended."""
        if self._file < 0:
            return
        if deregistered:
            self._write_ids([])
        os.close(self._file)
        self._file = -1

    def _read_ids(self) -> tuple[WorkerId, ...]:
        text = os.pread(self._file, 64 * 1024, 0).decode("ascii", errors="replace")
        return tuple(WorkerId(line) for line in text.split() if is_uuid(line))[-REMEMBERED:]

    def _write_ids(self, ids: list[WorkerId]) -> None:
        """Write in place: the lock belongs to this file. A torn write costs a lease, not a task."""
        if self._file < 0:
            return
        data = "".join(f"{one}\n" for one in ids).encode()
        os.pwrite(self._file, data, 0)
        os.ftruncate(self._file, len(data))


def _open_locked(path: Path, name: str, patience: float) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot keep the worker's lock at {path}: {error.strerror}") from error
    deadline = time.monotonic() + patience
    while not _try_lock(file):
        if time.monotonic() >= deadline:
            os.close(file)
            raise Conflict(
                f"a worker named {name!r} runs on this host already, on the same volume: end it, or give this one"
                " another --name (a standalone engine another --volume)"
            )
        time.sleep(_TRY_AGAIN)
    return file


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
