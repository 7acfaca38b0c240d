"""Ends what an earlier life of the same worker has left running on this host.

Its tasks carry the worker's own TMPDIR in their environment. The caller holds the worker's lock and has started nothing
yet: whoever carries the mark then belongs to a life that is over.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import Final

from echelon.worker.environment import make_temporary_folder, temporary_folder
from echelon.worker.runtimes import proc

_LOOK_AGAIN: Final = 0.01


def kill_leftovers(worker_name: str, *, parent: str | None = None, timeout: float = 5.0) -> int:
    """Kill every process that carries the mark of this worker and empty its TMPDIR; return how many there were.

    `parent` is where the TMPDIR is made (`ExecutorSettings.temporary`). Waits up to `timeout` seconds for their end.
    """
    temporary = temporary_folder(worker_name, parent)
    mark = os.fsencode(f"TMPDIR={temporary}")
    found = {pid: status.started for pid in _find_marked(mark) if (status := proc.status_of(pid)) is not None}
    deadline = time.monotonic() + timeout
    seen = set(found)
    while found and time.monotonic() < deadline:
        for pid, started in found.items():
            proc.signal_if(pid, signal.SIGKILL, _SameProcess(mark, started))
        # What they forked meanwhile carries the mark too.
        time.sleep(_LOOK_AGAIN)
        found = {pid: status.started for pid in _find_marked(mark) if (status := proc.status_of(pid)) is not None}
        seen |= set(found)
    _empty_folder(temporary)
    return len(seen)


class _SameProcess:
    """Tells whether a process is still the one that was found."""

    def __init__(self, mark: bytes, started: int) -> None:
        self._mark, self._started = mark, started

    def __call__(self, pid: int) -> bool:
        status = proc.status_of(pid)
        return status is not None and status.started == self._started and _carries_mark(pid, self._mark)


def _find_marked(mark: bytes) -> list[int]:
    spared = _find_ancestors()
    return [pid for pid in proc.every_pid() if pid not in spared and _carries_mark(pid, mark)]


def _find_ancestors() -> set[int]:
    """Return this process and those that it stems from: an engine may itself run as somebody's task."""
    line: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in line:
        line.add(pid)
        status = proc.status_of(pid)
        pid = 0 if status is None else status.parent
    return line


def _carries_mark(pid: int, mark: bytes) -> bool:
    environment = proc.environment_of(pid)
    return mark in environment and proc.attempt_in(environment) is not None


def _empty_folder(folder: str) -> None:
    """Remove what tasks have left in their TMPDIR."""
    if not os.path.isdir(folder) or os.path.islink(folder):
        return
    make_temporary_folder(folder)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
