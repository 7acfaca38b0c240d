"""Runs commands as processes of this machine, each in a session of its own.

Pipes serve one task after the other: as long as nothing of a task survives it, nobody else can write to them. That
saves six system calls a task. The other end stays open here, so a pipe never comes to its end; nobody waits for that.
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
from echelon.worker.runtimes.spawning import Spawner, best_spawner

#: Mode bits that files made by tasks do not get. posix_spawn has no umask of its own: it is set for this process.
UMASK: Final = 0o027
#: The machine is out of something; the task may run elsewhere or later.
_WORKER_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
#: Pipes that wait for the next task.
_SPARE_PIPES: Final = 256


class Pipe:
    """A pipe whose both ends are held here; a task gets a copy of one."""

    __slots__ = ("inner", "outer")

    def __init__(self) -> None:
        #: Ours, to read; and the one that tasks write to.
        self.inner, self.outer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.inner, False)

    def reset_flags(self) -> None:
        """Undo what a task may have set on the end that it got, such as O_NONBLOCK: the next one shares it."""
        fcntl.fcntl(self.outer, fcntl.F_SETFL, 0)

    def close(self) -> None:
        """Close both ends."""
        os.close(self.inner)
        os.close(self.outer)


class ChildProcess:
    """One task's process."""

    __slots__ = ("_pid", "_pipes", "_ref", "_runtime", "exit_fd", "stderr", "stdout")

    def __init__(self, runtime: ProcessRuntime, ref: AttemptRef, pid: int, pipes: tuple[Pipe, Pipe]) -> None:
        self._runtime, self._ref, self._pid, self._pipes = runtime, ref, pid, pipes
        self.exit_fd = os.pidfd_open(pid)
        self.stdout, self.stderr = pipes[0].inner, pipes[1].inner

    @property
    def ref(self) -> AttemptRef:
        """Return the attempt it runs."""
        return self._ref

    def terminate(self) -> None:
        self._signal_group(signal.SIGTERM)
        # A stopped process hears SIGTERM only when it goes on.
        self._signal_group(signal.SIGCONT)
        proc.signal_attempt(self._ref, signal.SIGTERM)

    def kill(self) -> None:
        self._signal_group(signal.SIGKILL)
        self._runtime.orphans.kill_orphans(self._ref)
        proc.signal_attempt(self._ref, signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        # A setuid program's process cannot be signalled; what can be is.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Not reaped before the last survivor is gone: nobody else can have its number.
            os.killpg(self._pid, number)

    def reap(self) -> Exit:
        del self._runtime.mains[self._pid]
        os.close(self.exit_fd)
        try:
            status = os.waitpid(self._pid, 0)[1]
        except ChildProcessError:
            # Somebody else in this process waits for children that are not theirs; how it ended is lost.
            return Exit()
        code = os.waitstatus_to_exitcode(status)
        return Exit(exit_code=code) if code >= 0 else Exit(signal=-code)

    def release_pipes(self, *, clean: bool) -> bool:
        return self._runtime.return_pipes(self._pipes, clean=clean)


class ProcessRuntime:
    """Starts commands as child processes. One thread uses it, and lives as long as they do."""

    def __init__(self, *, sole_parent: bool, spawner: Spawner | None = None) -> None:
        """Set up; `sole_parent`: this process has no children but tasks, so that every stray must be a task's."""
        os.umask(UMASK)
        self._spawner = spawner or best_spawner()
        self.orphans = Orphans(sole_parent=sole_parent)
        #: Main processes that have not been reaped.
        self.mains: dict[int, AttemptRef] = {}
        self._pipes: list[Pipe] = []
        self._programs: dict[tuple[bytes, str], bytes] = {}

    def start_command(self, launch: Launch) -> Process:
        program = self._find_program(launch)
        try:
            pipes = self._take_pipes()
        except OSError as error:
            raise _explain_error(error, launch, program) from error
        try:
            pid = self._spawner.spawn_program(
                program,
                [launch.command, *launch.arguments],
                launch.environment,
                folder=launch.folder,
                outputs=(pipes[0].outer, pipes[1].outer),
            )
        except OSError as error:
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
        owners = self.orphans.find_owners(
            self.mains, [process.ref for process in ended if isinstance(process, ChildProcess)]
        )
        if not owners:
            return []
        return [process for process in ended if isinstance(process, ChildProcess) and process.ref in owners]

    def reap_orphans(self) -> None:
        self.orphans.find_owners(self.mains)

    def close(self) -> None:
        self.orphans.close()
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

    def return_pipes(self, pipes: tuple[Pipe, Pipe], *, clean: bool) -> bool:
        """Keep pipes for the next task, or close them; tell whether they were kept."""
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
        """Return the path of a command: looked for on the task's own PATH, not on the worker's."""
        if b"/" in launch.command:
            return launch.command
        key = (launch.command, launch.search)
        found = self._programs.get(key)
        if found is None:
            found = _search_path(launch)
            if len(self._programs) > 1000:
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
    """Return what went wrong, in words that tell a user what to do."""
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
