"""Orphans: processes that tasks leave behind. Finds them with one small read, assigns them to attempts, reaps them.

This process is a subreaper, so a descendant that loses its parent becomes its child. The kernel lists the children of a
process's main thread in one file. If the file lists only main processes of tasks, there are no orphans; a well-behaved
task costs this one read. An orphan belongs to the attempt whose session it is in, or to the one named in its
environment. An orphan of unknown origin ends when none of the attempts is left that ran when it was first seen; in a
process that has other children too (tests), it is left alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Mapping
from typing import Final

from echelon.shared.ids import TaskId
from echelon.shared.messages import AttemptRef
from echelon.worker.runtimes import proc

_READ: Final = 64 * 1024
#: A child that is not a task's is checked again after so many seconds: its number may have been reused.
_LOOK_AGAIN: Final = 1.0
#: An ended process of unknown origin is reaped after so many seconds, if no other code has done so.
_UNCLAIMED: Final = 5.0
#: Owner of an orphan that belongs to no known attempt.
_NOBODY: Final = AttemptRef(TaskId(""), 0)


class Orphans:
    """The orphans of one worker. One thread uses it."""

    def __init__(self, *, sole_parent: bool) -> None:
        proc.become_subreaper()
        self._sole_parent = sole_parent
        self._children = _open_children()
        self._session = os.getsid(0)
        #: The attempt that this process itself belongs to, in a task of another Echelon.
        self._within = proc.attempt_in([b"%b=%b" % pair for pair in os.environb.items()])
        self._owned: dict[int, AttemptRef] = {}
        #: Orphans of unknown origin, and the attempts that ran when they were first seen.
        self._unowned: dict[int, set[AttemptRef]] = {}
        #: Children that are not a task's, and when to check them again (monotonic seconds).
        self._foreign: dict[int, float] = {}
        self._unclaimed: dict[int, float] = {}

    def close(self) -> None:
        if self._children is not None:
            os.close(self._children)

    def find_owners(self, mains: Mapping[int, AttemptRef], ended: Collection[AttemptRef] = ()) -> frozenset[AttemptRef]:
        """Return the attempts that have orphans, given the unreaped main processes and the attempts that ended."""
        children = self._list_children()
        unknown = [pid for pid in children if pid not in mains]
        if not unknown and not self._owned:
            return frozenset()
        for pid in unknown:
            if pid not in self._owned:
                self._assign_owner(pid, mains)
        self._settle_unowned(set(mains.values()), ended)
        self._reap_ended(children)
        return frozenset(self._owned.values())

    def signal_family(self, ref: AttemptRef, main: int, number: signal.Signals) -> None:
        """Signal an attempt's main process, its known orphans, and all their descendants."""
        proc.signal_tree([main, *self._list_orphans(ref)], number)

    def _list_orphans(self, ref: AttemptRef) -> list[int]:
        return [pid for pid, owner in self._owned.items() if owner == ref]

    def _kill_orphans(self, ref: AttemptRef) -> None:
        proc.signal_tree(self._list_orphans(ref), signal.SIGKILL)

    def _list_children(self) -> list[int]:
        """Return the children of the main thread, adopted ones included."""
        if self._children is None:
            return [pid for pid in proc.every_pid() if proc.is_child(pid, os.getpid())]
        data = more = os.pread(self._children, _READ, 0)
        # The kernel returns at most a page at once, also if more was asked for.
        while more:
            more = os.pread(self._children, _READ, len(data))
            data += more
        return [int(pid) for pid in data.split()]

    def _assign_owner(self, pid: int, mains: Mapping[int, AttemptRef]) -> None:
        now = time.monotonic()
        if self._foreign.get(pid, 0.0) > now:
            return
        ref = proc.attempt_in(proc.environment_of(pid))
        status = proc.status_of(pid)
        if status is None:
            return
        owner = mains.get(status.session) or (ref if ref in mains.values() else None)
        if owner is not None:
            self._owned[pid] = owner
            self._unowned.pop(pid, None)
        elif status.session == self._session:
            self._foreign[pid] = now + _LOOK_AGAIN
        elif status.state == "Z":
            self._reap_unclaimed(pid, now)
        elif ref is not None and ref != self._within:
            # Its attempt ended earlier.
            self._owned[pid] = ref
            self._kill_orphans(ref)
        elif self._sole_parent:
            self._unowned.setdefault(pid, set(mains.values()))
        else:
            self._foreign[pid] = now + _LOOK_AGAIN

    def _settle_unowned(self, running: set[AttemptRef], ended: Collection[AttemptRef]) -> None:
        for pid, candidates in list(self._unowned.items()):
            last = next(iter(candidates & set(ended)), None)
            candidates &= running.difference(ended)
            if not candidates:
                del self._unowned[pid]
                self._owned[pid] = last or _NOBODY
                self._kill_orphans(_NOBODY)

    def _reap_unclaimed(self, pid: int, now: float) -> None:
        since = self._unclaimed.setdefault(pid, now)
        if self._sole_parent or now - since > _UNCLAIMED:
            del self._unclaimed[pid]
            _reap_child(pid)

    def _reap_ended(self, children: Collection[int]) -> None:
        for pid in list(self._owned):
            if _reap_child(pid):
                del self._owned[pid]
        for known in (self._unowned, self._unclaimed, self._foreign):
            for pid in [pid for pid in known if pid not in children]:
                del known[pid]


def _open_children() -> int | None:
    """Open the kernel's list of the main thread's children; None if this kernel has none."""
    pid = os.getpid()
    try:
        return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _reap_child(pid: int) -> bool:
    """Reap a child if it has ended; return whether it is gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
