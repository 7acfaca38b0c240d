"""One life of a worker on its host: who it is, and which earlier lives of the same name are dead.

A file in the worker's state folder is locked as long as the process lives (the kernel lets go of the lock with the
process, however it dies), and it holds the ids of the lives that nobody has buried yet. Whoever gets the lock knows
that all of them are dead: their attempts can run again at once instead of after a lease. The file's time of change is
when the broker last took a sign of life, for whoever watches over the process.
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

#: More lives than this are not remembered: their leases ended long ago.
REMEMBERED = 32
#: Seconds between two looks at a lock.
_TRY_AGAIN = 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Incarnation:
    """The lock on a worker's name, held by one life of it.

    `patience`: seconds for which an earlier life that is about to end is waited for.
    """

    def __init__(self, state_dir: Path, name: str, *, patience: float = 0.0) -> None:
        if not _NAME.fullmatch(name):
            raise Conflict(f"{name!r} cannot be a worker's name; use letters, digits, dots, dashes and underscores")
        self.id = new_worker_id()
        self._path = state_dir / f"worker-{name}.lock"
        self._file = _open_locked(self._path, name, patience)
        failpoint("life.after_lock")
        #: Earlier lives that are dead and have not been buried.
        self.earlier = self._read_ids()
        self._write_ids([*self.earlier, self.id])
        failpoint("life.after_write")
        # Not heard yet, however lately this file was written.
        os.utime(self._file, (0, 0))

    def record_heartbeat(self) -> None:
        """Note that the broker has just taken a sign of life. Any thread may call it."""
        # It may be closed at any moment: then nobody asks any more.
        with contextlib.suppress(OSError):
            os.utime(self._file)

    def forget_earlier(self) -> None:
        """Forget the earlier lives: the controllers know of their death."""
        failpoint("life.before_buried")
        self._write_ids([self.id])

    def end(self, *, said_goodbye: bool) -> None:
        """Let go of the name; after a goodbye there is nothing left to bury."""
        if self._file < 0:
            return
        if said_goodbye:
            self._write_ids([])
        os.close(self._file)
        self._file = -1

    def _read_ids(self) -> tuple[WorkerId, ...]:
        text = os.pread(self._file, 64 * 1024, 0).decode("ascii", errors="replace")
        return tuple(WorkerId(line) for line in text.split() if is_uuid(line))[-REMEMBERED:]

    def _write_ids(self, lives: list[WorkerId]) -> None:
        """Write in place: the lock hangs on this file. A torn write costs a lease, not a task."""
        if self._file < 0:
            return
        data = "".join(f"{life}\n" for life in lives).encode()
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
