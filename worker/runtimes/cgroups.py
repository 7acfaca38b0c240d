"""Keeps the processes of each attempt in a cgroup of their own, so that none of them can hide.

A process is born in the cgroup of the thread that starts it. In threaded cgroups, one thread may be elsewhere than the
rest of its process: the thread that starts commands enters the cgroup of an attempt before each start. So a command is
in its cgroup from its first instruction, with any C library, and the start takes 8 us longer. To move a started process
takes three times as long, and what it has forked meanwhile would not move with it.

Threaded cgroups have no `cgroup.kill`. Instead they are frozen, which also stops a process that forks without end, and
then everything in them is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from echelon.worker.runtimes import proc

log = logging.getLogger(__name__)

_PREFIX: Final = "echelon-worker-"
_READ: Final = 64 * 1024
_CHECK_AGAIN: Final = 0.005
_ATTEMPTS: Final = 5


@dataclass(slots=True)
class _Starter:
    """The thread that starts processes."""

    #: The file that moves a thread to the cgroup of this process.
    home: int
    #: Where it is; None: at home. It stays in the cgroup of an ended attempt: each move also makes the next start
    #: slower, by 10 us.
    inside: Cgroup | None = None


class Cgroup:
    """The cgroup of one attempt at a time. One thread uses it."""

    def __init__(self, path: str, starter: _Starter) -> None:
        self._path, self._starter = path, starter
        _make_threaded(path)
        # Then a process cannot hide in a cgroup below this one.
        _write_file(f"{path}/cgroup.max.descendants", "0")
        self._threads = os.open(f"{path}/cgroup.threads", os.O_RDWR | os.O_CLOEXEC)
        #: Its list of threads when nothing but the starting thread is here.
        self._only_starter = b"0\n"
        #: Whether processes cannot run here: they were killed.
        self.frozen = False

    def enter(self) -> None:
        """Move the calling thread here: processes that it starts from now on are born here."""
        if self._starter.inside is not self:
            os.write(self._threads, b"0")
            self._starter.inside = self
            self._only_starter = b"%d\n" % threading.get_native_id()

    def has_survivors(self, main: int) -> bool:
        """Return whether a process other than the ended main process lives here."""
        try:
            threads = os.pread(self._threads, _READ, 0)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            # Another program has removed the cgroup, which was possible only because nothing lived in it.
            return False
        if not threads or threads == self._only_starter:
            return False
        # The kernel may list a thread for some microseconds after its end.
        others = _list_threads(self._path) - {main, int(self._only_starter)}
        return any(_is_alive(thread) for thread in others)

    def signal_processes(self, number: signal.Signals) -> None:
        """Signal every process here."""
        self.leave()
        for thread in _list_threads(self._path):
            # There is no pidfd of a thread that is not its process's first: a process gets the signal once.
            proc.signal_if(thread, number, lambda thread: thread in _list_threads(self._path))

    def kill_processes(self) -> None:
        """Send SIGKILL to every process here, also to one that forks all the time."""
        self.leave()
        self.frozen = True
        _kill_all(self._path)

    def thaw(self) -> None:
        """Let processes run here again."""
        _write_file(f"{self._path}/cgroup.freeze", "0")
        self.frozen = False

    def remove(self) -> bool:
        """Kill what is here and remove the cgroup, which cannot be used any more; return whether it was empty."""
        self.leave()
        if self._threads >= 0:
            os.close(self._threads)
            self._threads = -1
        _kill_all(self._path)
        return _remove_folder(self._path)

    def leave(self) -> None:
        """Move the calling thread out of here: it must not be frozen."""
        os.write(self._starter.home, b"0")
        self._starter.inside = None


class Cgroups:
    """The cgroups of one worker. One thread uses them, but any thread may make them."""

    def __init__(self, name: str, parent: str) -> None:
        """Raise OSError if this process cannot use threaded cgroups in the folder `parent`, its own cgroup."""
        #: Its folder.
        self.path = f"{parent}/{_PREFIX}{name}"
        self._spare: list[Cgroup] = []
        #: Cgroups whose processes hang in the kernel.
        self._stuck: list[Cgroup] = []
        self._made = 0
        self._starter = _Starter(os.open(f"{parent}/cgroup.threads", os.O_WRONLY | os.O_CLOEXEC))
        self._lock = -1
        try:
            self._lock = _make_locked(self.path)
            first = self.take_cgroup()
            first.enter()
            first.leave()
            self.return_cgroup(first, empty=True)
        except OSError:
            self.close()
            raise

    def take_cgroup(self) -> Cgroup:
        """Return an empty cgroup; raise OSError."""
        if self._spare:
            return self._spare.pop()
        self._made += 1
        return Cgroup(f"{self.path}/{self._made}", self._starter)

    def return_cgroup(self, cgroup: Cgroup, *, empty: bool) -> None:
        """Keep a cgroup for the next attempt if it is empty; otherwise remove it as soon as it is."""
        if not empty:
            self._stuck.append(cgroup)
            return
        try:
            if cgroup.frozen:
                cgroup.thaw()
        except OSError:
            self._stuck.append(cgroup)
        else:
            self._spare.append(cgroup)

    def remove_stuck(self) -> None:
        """Remove cgroups whose processes have ended at last."""
        self._stuck = [cgroup for cgroup in self._stuck if not cgroup.remove()]

    def close(self) -> None:
        """Remove all cgroups, as far as they are empty."""
        for cgroup in [*self._spare, *self._stuck]:
            cgroup.remove()
        self._spare.clear()
        _remove_folder(self.path)
        for fd in (self._starter.home, self._lock):
            if fd >= 0:
                os.close(fd)


def make_cgroups(name: str) -> Cgroups | None:
    """Return cgroups below that of this process; None if it cannot make any."""
    own = _find_own()
    if own is None:
        return None
    try:
        return Cgroups(name, own)
    except OSError as error:
        log.debug("no cgroups in %s: %s", own, error)
        return None


def kill_cgroups(names: Iterable[str], *, timeout: float) -> int:
    """Kill all processes in the cgroups of dead workers and remove these; return how many threads there were.

    Dead are those with these names, wherever their cgroups are, and those beside this process whose lock is free.
    """
    own = _find_own()
    # This process may have been started by a task of the dead worker.
    above = {os.path.basename(folder) for folder in Path(own or "/").parents}
    folders = {f"{_PREFIX}{name}" for name in names} - above
    found = [path for mount, _ in _find_mounts() if folders for path, _, _ in os.walk(mount)]
    deadline = time.monotonic() + timeout
    killed: set[int] = set()
    for path in found:
        if os.path.basename(path) in folders:
            killed |= _empty_tree(path, deadline)
    for path in [str(path) for path in Path(own).glob(f"{_PREFIX}*")] if own is not None else ():
        with contextlib.suppress(OSError), _open_folder(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            killed |= _empty_tree(path, deadline)
    return len(killed)


@contextlib.contextmanager
def _open_folder(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _empty_tree(path: str, deadline: float) -> set[int]:
    """Kill everything in the cgroups of a worker and remove them; return the killed threads."""
    killed: set[int] = set()
    left = [path]
    while left and time.monotonic() < deadline:
        try:
            below = [entry.path for entry in os.scandir(path) if entry.is_dir()]
        except FileNotFoundError:
            break
        killed.update(*(_kill_all(folder) for folder in below))
        left = [folder for folder in [*below, path] if not _remove_folder(folder)]
        if left:
            time.sleep(_CHECK_AGAIN)
    return killed


def _find_own() -> str | None:
    """Return the folder of this process's cgroup; None if it has no visible one of version 2."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    for mount, root in _find_mounts():
        below = own.removeprefix(root.rstrip("/"))
        if own.startswith(root) and below[:1] in ("", "/") and os.path.isdir(path := f"{mount}{below}".rstrip("/")):
            return path
    return None


def _find_mounts() -> list[tuple[str, str]]:
    """Return where version 2 of cgroups is mounted, and which cgroup is the root of each mount."""
    found = []
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, kind = line.partition(" - ")
            if kind.startswith("cgroup2 "):
                found.append((_unescape(fields.split()[4]), _unescape(fields.split()[3])))
    return found


def _unescape(path: str) -> str:
    """Return a path of /proc/self/mountinfo, in which blanks are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _make_threaded(path: str) -> None:
    os.mkdir(path, 0o700)
    _write_file(f"{path}/cgroup.type", "threaded")


def _make_locked(path: str) -> int:
    """Make the cgroup of a worker and lock it; return the lock."""
    for _ in range(_ATTEMPTS):
        # A worker that starts now may take it for a dead one's, and remove it.
        with contextlib.suppress(FileNotFoundError):
            _make_threaded(path)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.exists(path):
                return fd
            os.close(fd)
    raise FileNotFoundError(errno.ENOENT, "other workers remove it", path)


def _kill_all(path: str) -> set[int]:
    """Freeze a cgroup, then kill all threads there; return them."""
    with contextlib.suppress(OSError):
        _write_file(f"{path}/cgroup.freeze", "1")
    found = _list_threads(path)
    for thread in found:
        # Nothing frozen can end and leave its number to another process.
        with contextlib.suppress(OSError):
            os.kill(thread, signal.SIGKILL)
    return found


def _list_threads(path: str) -> set[int]:
    with contextlib.suppress(OSError), open(f"{path}/cgroup.threads", encoding="ascii") as file:
        return {int(line) for line in file}
    return set()


def _remove_folder(path: str) -> bool:
    """Remove an empty cgroup; return whether it is gone."""
    try:
        os.rmdir(path)
    except OSError:
        return not os.path.exists(path)
    return True


def _is_alive(pid: int) -> bool:
    status = proc.status_of(pid)
    return status is not None and status.state not in "ZX"


def _write_file(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
