"""The port of runtimes: start a command, signal its end by a file descriptor, end every process that it left.

Only the thread that made a runtime uses it and its processes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from echelon.shared.errors import EchelonError
from echelon.shared.messages import AttemptRef


class CannotStart(EchelonError):
    """The command could not be started."""

    def __init__(self, message: str | None = None, *, worker_fault: bool = False) -> None:
        super().__init__(message)
        #: The cause is the worker: the task may run elsewhere.
        self.worker_fault = worker_fault


class StartRefused(CannotStart):
    """`Launch.may_start` said no; nothing was started."""


def _start_always() -> bool:
    return True


class Launch(msgspec.Struct):
    """The data to start one attempt. Not frozen: thousands are made a second."""

    ref: AttemptRef
    #: As its author wrote it: a path, or a name to search on `search`.
    command: bytes
    arguments: list[bytes]
    #: NAME=value; the two that name the process's attempt (ECHELON_TASK_ID, ECHELON_CLAIM) come first.
    environment: list[bytes]
    #: The task's own PATH.
    search: str
    #: Working directory.
    folder: str
    #: The runtime asks it as late as it can before it starts the process; False: it raises StartRefused.
    may_start: Callable[[], bool] = _start_always
    #: The number of the primary group of a process of another user; None: this process's.
    group: int | None = None


class Exit(msgspec.Struct, frozen=True):
    """How a main process ended: one of the two is set, or neither if the exit status was lost."""

    exit_code: int | None = None
    signal: int | None = None


class Process(Protocol):
    """A started command."""

    ref: AttemptRef
    #: Becomes readable when the main process has ended.
    exit_fd: int
    #: Non-blocking; -1 if there is nothing to read. A pipe may never report its end: see `Runtime.find_survivors`.
    stdout: int
    stderr: int

    def terminate(self) -> None:
        """Send SIGTERM to every process of the attempt."""

    def kill(self) -> None:
        """Send SIGKILL to every process of the attempt; each call searches for them again."""

    def reap(self) -> Exit:
        """Return how the main process ended, and close `exit_fd`; call it once, after the end."""

    def release_pipes(self, *, clean: bool) -> bool:
        """Give up the pipes. Clean: they are empty, and no process is left that could write to them.

        Returns whether they stay open under the same numbers, for another process; else they are closed.
        """


class Runtime(Protocol):
    """Starts commands in one way."""

    def start_command(self, launch: Launch) -> Process:
        """Start a command; raise CannotStart."""

    def find_survivors(self, ended: Sequence[Process]) -> Collection[Process]:
        """Return those whose main process has ended while another process of theirs lives; call it before `reap`."""

    def reap_orphans(self) -> None:
        """Kill and reap processes that ended attempts have left. Called about once a second."""

    def close(self) -> None:
        """Free the runtime's resources; none of its processes may be running."""
