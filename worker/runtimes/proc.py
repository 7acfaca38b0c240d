"""Reads /proc and signals processes, but never one that has reused the number of another.

It opens a pidfd, then checks again that the process is the intended one, then signals it through the pidfd.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from echelon.shared.ids import TaskId
from echelon.shared.messages import AttemptRef

_SET_CHILD_SUBREAPER: Final = 36
#: Large enough for the engine's own variables, which come first in a task's environment.
_ENVIRONMENT_READ: Final = 16 * 1024
_TASK_ID, _CLAIM = b"ECHELON_TASK_ID=", b"ECHELON_CLAIM="


@dataclass(frozen=True, slots=True)
class Status:
    """Fields of /proc/<pid>/stat."""

    #: One letter; Z: ended, not reaped. Of a process whose first thread alone has ended, that of another thread.
    state: str
    parent: int
    session: int
    #: Clock ticks after boot: distinguishes a process from a later one with the same number.
    started: int


def become_subreaper() -> None:
    """Make descendants that lose their parent children of this process, not of init."""
    _call_prctl(_SET_CHILD_SUBREAPER, 1)


def _call_prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {value}): {os.strerror(error)}")


def status_of(pid: int) -> Status | None:
    """Return a process's status; None if it is gone."""
    try:
        fields = _read_stat(pid)
        state = fields[0].decode()
        if state == "Z" and (thread := _find_thread(pid)) is not None:
            state = _read_stat(thread)[0].decode()
        return Status(state, int(fields[1]), int(fields[3]), int(fields[19]))
    except (OSError, IndexError):
        return None


def _read_stat(pid: int) -> list[bytes]:
    """Return the fields behind the name, which stands in parentheses and may contain parentheses itself."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b") ")[2].split()


def _find_thread(pid: int) -> int | None:
    """Return a thread of a process that is not its first one; None if there is none. Raise OSError if it is gone."""
    return next((int(name) for name in os.listdir(f"/proc/{pid}/task") if name != str(pid)), None)


def is_child(pid: int, parent: int) -> bool:
    """Return whether a process exists and has this parent."""
    status = status_of(pid)
    return status is not None and status.parent == parent


def environment_of(pid: int) -> list[bytes]:
    """Return the beginning of a process's environment; empty if it is gone, a zombie or another user's."""
    try:
        content = _read_environment(pid)
        # The first thread of a process has lost it when it has ended before the others.
        if not content and (thread := _find_thread(pid)) is not None:
            content = _read_environment(thread)
        return content.split(b"\0")
    except OSError:
        return []


def _read_environment(pid: int) -> bytes:
    with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
        return file.read(_ENVIRONMENT_READ) or b""


def attempt_in(environment: list[bytes]) -> AttemptRef | None:
    """Return the attempt that an environment belongs to; None if it is not a task's."""
    task_id = attempt = b""
    for entry in environment:
        if entry.startswith(_TASK_ID):
            task_id = entry[len(_TASK_ID) :]
        elif entry.startswith(_CLAIM):
            attempt = entry[len(_CLAIM) :]
    if not task_id or not attempt.isdigit():
        return None
    return AttemptRef(TaskId(task_id.decode("ascii", "replace")), int(attempt))


def every_pid() -> Iterator[int]:
    """Yield the number of every visible process."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def signal_if(pid: int, number: signal.Signals, is_right: Callable[[int], bool]) -> bool:
    """Signal a process if `is_right`, called while its number cannot be reused; return whether it was signalled."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not is_right(pid):
            return False
        signal.pidfd_send_signal(fd, number)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def signal_tree(roots: Collection[int], number: signal.Signals) -> None:
    """Signal processes of this process's tree, and all their descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    known = {pid: status for pid in every_pid() if (status := status_of(pid)) is not None}
    for pid, status in known.items():
        children[status.parent].append(pid)
    found = [pid for pid in roots if pid in known]
    for pid in found:
        found += children[pid]
    for pid in found:
        signal_if(pid, number, functools.partial(_is_same, started=known[pid].started))


def _is_same(pid: int, *, started: int) -> bool:
    status = status_of(pid)
    return status is not None and status.started == started
