"""Processes that tasks leave behind: found by one small read, told apart, and reaped.

This process is a subreaper, so whatever loses its parent below it becomes its child. The kernel lists the children of a
process's main thread in one file; when that names nobody but main processes of tasks, nothing was left behind, and that
one read is all that a well-behaved task costs. A stray belongs to the attempt that its environment names, else to the
one whose session it is in. In a process that has other children too (standalone), what cannot be told apart is let be.
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
#: A process that was not ours is looked at again after so many seconds: its number may have changed hands.
_LOOK_AGAIN: Final = 1.0
#: An ended process of unknown origin is reaped when nobody has done it for so many seconds.
_UNCLAIMED: Final = 5.0
#: Owner of a stray that belongs to none of the attempts that are known.
_NOBODY: Final = AttemptRef(TaskId(""), 0)


class Orphans:
    """The strays of one worker. One thread uses it."""

    def __init__(self, *, sole_parent: bool) -> None:
        proc.become_subreaper()
        self._sole_parent = sole_parent
        self._children = _open_children()
        self._session = os.getsid(0)
        #: Set when this process is itself part of a task, of another Echelon.
        self._within = proc.attempt_in([b"%b=%b" % pair for pair in os.environb.items()])
        self._owned: dict[int, AttemptRef] = {}
        #: Strays that nothing ties to an attempt, and the attempts that ran when they were first seen.
        self._unowned: dict[int, set[AttemptRef]] = {}
        #: Somebody else's children, and when to look at them again (monotonic seconds).
        self._foreign: dict[int, float] = {}
        self._unclaimed: dict[int, float] = {}

    def close(self) -> None:
        """Stop looking."""
        if self._children is not None:
            os.close(self._children)

    def find_owners(self, mains: Mapping[int, AttemptRef], ended: Collection[AttemptRef] = ()) -> frozenset[AttemptRef]:
        """Return the attempts that have strays, given the main processes not yet reaped and who of them has ended."""
        children = self._list_children()
        unknown = [pid for pid in children if pid not in mains]
        if not unknown and not self._owned:
            return frozenset()
        for pid in unknown:
            if pid not in self._owned:
                self._assign_owner(pid, mains)
        self._settle_unowned(ended)
        self._reap_ended(children)
        return frozenset(self._owned.values())

    def kill_orphans(self, ref: AttemptRef) -> None:
        """Kill the known strays of an attempt."""
        ours = os.getpid()

        def is_our_child(pid: int) -> bool:
            status = proc.status_of(pid)
            return status is not None and status.parent == ours

        for pid in [pid for pid, owner in self._owned.items() if owner == ref]:
            proc.signal_if(pid, signal.SIGKILL, is_our_child)

    def _list_children(self) -> list[int]:
        """Return the children of the main thread, those that were handed to it included."""
        if self._children is None:
            return [pid for pid in proc.every_pid() if (found := proc.status_of(pid)) and found.parent == os.getpid()]
        data = more = os.pread(self._children, _READ, 0)
        while len(more) == _READ:
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
            # Its attempt has ended already.
            self._owned[pid] = ref
            self.kill_orphans(ref)
        elif self._sole_parent:
            self._unowned.setdefault(pid, set(mains.values()))
        else:
            self._foreign[pid] = now + _LOOK_AGAIN

    def _settle_unowned(self, ended: Collection[AttemptRef]) -> None:
        for pid, candidates in list(self._unowned.items()):
            last = next(iter(candidates & set(ended)), None)
            candidates.difference_update(ended)
            if not candidates:
                del self._unowned[pid]
                self._owned[pid] = last or _NOBODY
                self.kill_orphans(_NOBODY)

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
    """Open the kernel's list of the main thread's children; None where it does not keep one."""
    pid = os.getpid()
    try:
        return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _reap_child(pid: int) -> bool:
    """Reap a child if it has ended; tell whether it is gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
