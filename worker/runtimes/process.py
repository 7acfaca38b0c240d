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
from echelon.worker.runtimes import proc
from echelon.worker.runtimes.orphans import Orphans
from echelon.worker.runtimes.port import CannotStart, Exit, Launch, Process
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

    __slots__ = ("_pid", "_pipes", "_runtime", "exit_fd", "ref", "stderr", "stdout")

    def __init__(self, runtime: ProcessRuntime, ref: AttemptRef, pid: int, pipes: tuple[Pipe, Pipe]) -> None:
        self._runtime, self.ref, self._pid, self._pipes = runtime, ref, pid, pipes
        self.exit_fd = os.pidfd_open(pid)
        self.stdout, self.stderr = pipes[0].inner, pipes[1].inner

    def terminate(self) -> None:
        self._signal_group(signal.SIGTERM)
        # A stopped process handles SIGTERM only after SIGCONT.
        self._signal_group(signal.SIGCONT)
        proc.signal_attempt(self.ref, signal.SIGTERM)

    def kill(self) -> None:
        self._signal_group(signal.SIGKILL)
        self._runtime.orphans.kill_orphans(self.ref)
        proc.signal_attempt(self.ref, signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        # The processes of a setuid program cannot be signalled; the others get the signal.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The main process is reaped after the last survivor, so its number cannot belong to another group yet.
            os.killpg(self._pid, number)

    def reap(self) -> Exit:
        del self._runtime.mains[self._pid]
        os.close(self.exit_fd)
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

    def __init__(self, *, sole_parent: bool, spawner: Spawner | None = None) -> None:
        """`sole_parent`: this process has no children but tasks, so every orphan must be a task's."""
        os.umask(UMASK)
        self._spawn = spawner or choose_spawner()
        self.orphans = Orphans(sole_parent=sole_parent)
        #: Main processes that have not been reaped.
        self.mains: dict[int, AttemptRef] = {}
        self._pipes: list[Pipe] = []
        self._programs: dict[tuple[bytes, str], bytes] = {}

    def start_command(self, launch: Launch) -> Process:
        program = self._find_program(launch)
        pipes = None
        try:
            pipes = self._take_pipes()
            pid = self._spawn(program, launch, (pipes[0].outer, pipes[1].outer))
        except OSError as error:
            if pipes is not None:
                self.return_pipes(pipes, clean=True)
                self._programs.pop((launch.command, launch.search), None)
            raise _explain_error(error, launch, program) from error
        return self._watch_process(launch.ref, pid, pipes)

    def _watch_process(self, ref: AttemptRef, pid: int, pipes: tuple[Pipe, Pipe]) -> Process:
        try:
            process = ChildProcess(self, ref, pid, pipes)
        except OSError as error:
            # Out of file descriptors: a task that cannot be watched must not run.
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.return_pipes(pipes, clean=False)
            raise CannotStart(f"the worker cannot watch a process: {error.strerror}", worker_fault=True) from error
        self.mains[pid] = ref
        return process

    def find_survivors(self, ended: Sequence[Process]) -> list[Process]:
        owners = self.orphans.find_owners(self.mains, [process.ref for process in ended])
        return [process for process in ended if process.ref in owners] if owners else []

    def reap_orphans(self) -> None:
        self.orphans.find_owners(self.mains)

    def close(self) -> None:
        self.orphans.close()
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

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
        raise CannotStart(f"{os.fsdecode(denied)} is not executable (EACCES)")
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
        errno.EACCES: f"{name} is not executable" if os.path.isfile(path) else f"{name} cannot be entered or executed",
        errno.ENOEXEC: f"{name} is neither a program for this machine nor a script that begins with '#!'",
        errno.ETXTBSY: f"{name} is being written to",
    }
    return CannotStart(f"{words.get(number, f'cannot start {name}: {os.strerror(number)}')} ({code})")
