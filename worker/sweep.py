"""Kills the processes that a dead incarnation of the same worker has left on this host.

They are in the cgroups of that incarnation. Where none could be made, their mark is the worker's own TMPDIR in their
environment. The caller holds the worker's lock and has started no task yet, so every process with the mark belongs to a
dead incarnation.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable
from typing import Final

from echelon.shared.volume.removal import empty_tree
from echelon.worker.environment import make_temporary_folder, tasks_folder, temporary_folder
from echelon.worker.runtimes import proc
from echelon.worker.runtimes.cgroups import kill_cgroups

_CHECK_AGAIN: Final = 0.01


def kill_leftovers(
    worker_name: str, earlier: Iterable[str] = (), *, parent: str | None = None, timeout: float = 5.0
) -> int:
    """Kill what dead incarnations of a worker have left and empty its TMPDIR; return how many processes there were.

    `earlier`: their ids, which name their cgroups; `parent`: the TMPDIR's parent (`ExecutorSettings.temporary`). Waits
    up to `timeout` seconds for the end of the processes.
    """
    killed = kill_cgroups(earlier, timeout=timeout)
    temporary = temporary_folder(worker_name, parent)
    mark = os.fsencode(f"TMPDIR={temporary}")
    found = _find_marked(mark)
    deadline = time.monotonic() + timeout
    seen = set(found)
    while found and time.monotonic() < deadline:
        for pid, started in found.items():
            proc.signal_if(pid, signal.SIGKILL, functools.partial(_is_same, started=started, mark=mark))
        # Processes that they forked meanwhile have the mark too.
        time.sleep(_CHECK_AGAIN)
        found = _find_marked(mark)
        seen |= set(found)
    if os.path.lexists(temporary):
        make_temporary_folder(temporary)
        with contextlib.suppress(OSError):
            empty_tree(temporary)
    return killed + len(seen)


def _is_same(pid: int, *, started: int, mark: bytes) -> bool:
    status = proc.status_of(pid)
    return status is not None and status.started == started and _carries_mark(pid, mark)


def _find_marked(mark: bytes) -> dict[int, int]:
    """Return the marked processes and when they were started."""
    spared = _find_ancestors()
    return {
        pid: status.started
        for pid in proc.every_pid()
        if pid not in spared and _carries_mark(pid, mark) and (status := proc.status_of(pid)) is not None
    }


def _find_ancestors() -> set[int]:
    """Return this process and its ancestors: the worker may itself run in a task of another Echelon."""
    ancestors: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in ancestors:
        ancestors.add(pid)
        status = proc.status_of(pid)
        pid = 0 if status is None else status.parent
    return ancestors


def _carries_mark(pid: int, mark: bytes) -> bool:
    environment = proc.environment_of(pid)
    # With another user for tasks, each job has a TMPDIR of its own below that folder.
    below = os.fsencode(f"{tasks_folder(os.fsdecode(mark))}/")
    marked = mark in environment or any(entry.startswith(below) for entry in environment)
    return marked and proc.attempt_in(environment) is not None
