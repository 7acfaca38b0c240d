"""Runs commands as processes of this machine, each in a session of its own.

A pipe serves one task after the other: if nothing of a task survives, nothing else can write to its pipes. Reuse saves
six system calls a task. This process keeps the writing end open too, so a pipe never reports its end, and the executor
does not wait for one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Sequence
from typing import Final

from echelon.shared.messages import AttemptRef
from echelon.worker.runtimes.cgroups import Cgroup, Cgroups
from echelon.worker.runtimes.denials import explain_denial
from echelon.worker.runtimes.orphans import Orphans
from echelon.worker.runtimes.port import CannotStart, Exit, Launch, Process, StartRefused
from echelon.worker.runtimes.spawning import Spawner, choose_spawner

#: Mode bits that files made by tasks do not get. posix_spawn cannot set a umask: it is set for this process.
UMASK: Final = 0o027
#: The machine lacks a resource; the task may run elsewhere or later.
_WORKER_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
#: Pipes kept for the next tasks.
_SPARE_PIPES: Final = 256
#: Cached paths of programs.
_CACHED_PROGRAMS: Final = 1000


class Pipe:
    """A pipe with both ends held here; a task gets a copy of the outer one."""

    __slots__ = ("inner", "outer")

    def __init__(self) -> None:
        #: The end that the executor reads, and the one that tasks write to.
        self.inner, self.outer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.inner, False)

    def reset_flags(self) -> None:
        """Undo flags such as O_NONBLOCK that a task has set on its end: the next task shares them."""
        fcntl.fcntl(self.outer, fcntl.F_SETFL, 0)

    def close(self) -> None:
        os.close(self.inner)
        os.close(self.outer)


class ChildProcess:
    """One task's process."""

    __slots__ = ("_alone", "_cgroup", "_pid", "_pipes", "_runtime", "exit_fd", "ref", "stderr", "stdout")

    def __init__(
        self, runtime: ProcessRuntime, ref: AttemptRef, pid: int, pipes: tuple[Pipe, Pipe], cgroup: Cgroup | None
    ) -> None:
        self._runtime, self.ref, self._pid, self._pipes, self._cgroup = runtime, ref, pid, pipes, cgroup
        #: It has ended, and no other process is in its cgroup.
        self._alone = False
        self.exit_fd = os.pidfd_open(pid)
        self.stdout, self.stderr = pipes[0].inner, pipes[1].inner

    def terminate(self) -> None:
        # A stopped process handles SIGTERM only after SIGCONT.
        for number in (signal.SIGTERM, signal.SIGCONT):
            if self._cgroup is not None:
                self._cgroup.signal_processes(number)
            else:
                self._runtime.signal_family(self.ref, self._pid, number)

    def kill(self) -> None:
        # To find its descendants takes a millisecond, in which one that starts too late must do no work.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.exit_fd, signal.SIGSTOP)
        if self._cgroup is not None:
            self._cgroup.kill_processes()
        else:
            self._runtime.signal_family(self.ref, self._pid, signal.SIGKILL)

    def has_survivors(self) -> bool:
        """Return whether its cgroup holds other processes, after its own end."""
        self._alone = self._cgroup is None or not self._cgroup.has_survivors(self._pid)
        return not self._alone

    def reap(self) -> Exit:
        del self._runtime.mains[self._pid]
        os.close(self.exit_fd)
        self._runtime.return_cgroup(self._cgroup, empty=self._alone)
        try:
            status = os.waitpid(self._pid, 0)[1]
        except ChildProcessError:
            # Other code in this process waited for a child that is not its own; the exit status is lost.
            return Exit()
        code = os.waitstatus_to_exitcode(status)
        return Exit(exit_code=code) if code >= 0 else Exit(signal=-code)

    def release_pipes(self, *, clean: bool) -> bool:
        return self._runtime.return_pipes(self._pipes, clean=clean)


class ProcessRuntime:
    """Starts commands as child processes. One thread uses it, and must live as long as they do."""

    def __init__(self, *, sole_parent: bool, cgroups: Cgroups | None = None, spawner: Spawner | None = None) -> None:
        """`sole_parent`: this process has no children but tasks, so every orphan must be a task's.

        Without cgroups, the processes of a task are found as descendants of this process.
        """
        os.umask(UMASK)
        self._spawn = spawner or choose_spawner()
        self._cgroups = cgroups
        self.orphans = Orphans(sole_parent=sole_parent)
        #: Main processes that have not been reaped.
        self.mains: dict[int, AttemptRef] = {}
        self._pipes: list[Pipe] = []
        self._programs: dict[tuple[bytes, str], bytes] = {}

    @property
    def containment(self) -> str:
        """How processes that a task leaves are found."""
        return "subreaper" if self._cgroups is None else "cgroup"

    def start_command(self, launch: Launch) -> Process:
        program = self._find_program(launch)
        cgroup = self._enter_cgroup()
        pipes = None
        try:
            pipes = self._take_pipes()
            pid = self._spawn(program, launch, (pipes[0].outer, pipes[1].outer))
        except (StartRefused, OSError) as error:
            if pipes is not None:
                self.return_pipes(pipes, clean=True)
                self._programs.pop((launch.command, launch.search), None)
            self.return_cgroup(cgroup, empty=True)
            if isinstance(error, StartRefused):
                raise
            raise _explain_error(error, launch, program) from error
        return self._watch_process(launch.ref, pid, pipes, cgroup)

    def _enter_cgroup(self) -> Cgroup | None:
        if self._cgroups is None:
            return None
        try:
            cgroup = self._cgroups.take_cgroup()
            cgroup.enter()
        except OSError as error:
            raise CannotStart(f"the worker cannot use a cgroup: {error}", worker_fault=True) from error
        return cgroup

    def _watch_process(self, ref: AttemptRef, pid: int, pipes: tuple[Pipe, Pipe], cgroup: Cgroup | None) -> Process:
        try:
            process = ChildProcess(self, ref, pid, pipes, cgroup)
        except OSError as error:
            # Out of file descriptors: a task that cannot be watched must not run.
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.return_pipes(pipes, clean=False)
            self.return_cgroup(cgroup, empty=False)
            raise CannotStart(f"the worker cannot watch a process: {error.strerror}", worker_fault=True) from error
        self.mains[pid] = ref
        return process

    def find_survivors(self, ended: Sequence[Process]) -> list[Process]:
        if self._cgroups is not None:
            return [process for process in ended if isinstance(process, ChildProcess) and process.has_survivors()]
        owners = self.orphans.find_owners(self.mains, [process.ref for process in ended])
        return [process for process in ended if process.ref in owners] if owners else []

    def signal_family(self, ref: AttemptRef, main: int, number: signal.Signals) -> None:
        """Signal an attempt's main process, its descendants and its orphans."""
        self.orphans.find_owners(self.mains)
        self.orphans.signal_family(ref, main, number)

    def reap_orphans(self) -> None:
        if self._cgroups is not None:
            self._cgroups.remove_stuck()
        self.orphans.find_owners(self.mains)

    def close(self) -> None:
        self.orphans.close()
        if self._cgroups is not None:
            self._cgroups.close()
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

    def return_cgroup(self, cgroup: Cgroup | None, *, empty: bool) -> None:
        """Keep a cgroup for the next task; if it is not empty, what is in it is killed first."""
        if self._cgroups is not None and cgroup is not None:
            self._cgroups.return_cgroup(cgroup, empty=empty)

    def return_pipes(self, pipes: tuple[Pipe, Pipe], *, clean: bool) -> bool:
        """Keep pipes for the next task, or close them; return whether they were kept."""
        kept = clean and len(self._pipes) < _SPARE_PIPES
        for pipe in pipes:
            if kept:
                pipe.reset_flags()
            else:
                pipe.close()
        if kept:
            self._pipes += pipes
        return kept

    def _take_pipes(self) -> tuple[Pipe, Pipe]:
        if len(self._pipes) >= 2:
            return self._pipes.pop(), self._pipes.pop()
        first = Pipe()
        try:
            return first, Pipe()
        except OSError:
            first.close()
            raise

    def _find_program(self, launch: Launch) -> bytes:
        """Return the path of a command, searched on the task's own PATH, not on the worker's."""
        if b"/" in launch.command:
            return launch.command
        key = (launch.command, launch.search)
        found = self._programs.get(key)
        if found is None:
            found = _search_path(launch)
            if len(self._programs) > _CACHED_PROGRAMS:
                self._programs.clear()
            self._programs[key] = found
        return found


def _search_path(launch: Launch) -> bytes:
    denied: bytes | None = None
    for folder in launch.search.split(":"):
        path = os.path.join(os.fsencode(folder), launch.command)
        if folder.startswith("/") and os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            denied = path
    name = os.fsdecode(launch.command)
    if denied is not None:
        raise CannotStart(f"{os.fsdecode(denied)} {explain_denial(denied)} (EACCES)")
    hint = ""
    if name and os.path.isfile(os.path.join(launch.folder, name)):
        hint = f"; the file in the working directory is called ./{name}"
    raise CannotStart(f"command not found: {name!r} is not on the PATH {launch.search}{hint} (ENOENT)")


def _explain_error(error: OSError, launch: Launch, program: bytes) -> CannotStart:
    """Return the error with a message that tells the user what to do."""
    number = error.errno or 0
    code = errno.errorcode.get(number, str(number))
    name, path = repr(os.fsdecode(launch.command)), os.path.join(os.fsencode(launch.folder), program)
    if number in _WORKER_FAULTS:
        return CannotStart(f"the worker cannot start a process: {os.strerror(number)} ({code})", worker_fault=True)
    if number == errno.E2BIG:
        return CannotStart(f"the arguments and the environment of {name} are too long for the kernel (E2BIG)")
    if not os.path.isdir(launch.folder):
        return CannotStart(f"the working directory {launch.folder} does not exist ({code})")
    if number == errno.ENOENT and os.path.exists(path):
        return CannotStart(f"the interpreter that the first line of {name} names does not exist (ENOENT)")
    words = {
        errno.ENOENT: f"command not found: there is no file {name}",
        errno.EACCES: f"{name} {explain_denial(path)}",
        errno.ENOEXEC: f"{name} is neither a program for this machine nor a script that begins with '#!'",
        errno.ETXTBSY: f"{name} is being written to",
    }
    return CannotStart(f"{words.get(number, f'cannot start {name}: {os.strerror(number)}')} ({code})")
