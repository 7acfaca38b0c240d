"""What the executor asks of a runtime: start a command, tell by a file descriptor that it ended, end all it left.

One thread uses a runtime and its processes: the one that made it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from echelon.shared.errors import EchelonError
from echelon.shared.messages import AttemptRef


class CannotStart(EchelonError):
    """The command could not be started."""

    def __init__(self, message: str | None = None, *, worker_fault: bool = False) -> None:
        super().__init__(message)
        #: The worker could not do its part: the task may well run elsewhere.
        self.worker_fault = worker_fault


@dataclass(slots=True)
class Launch:
    """All that has to be known to start one attempt. Not frozen: thousands are made a second."""

    ref: AttemptRef
    #: As its author wrote it: a path, or a name to be found on `search`.
    command: bytes
    arguments: list[bytes]
    #: NAME=value, those that tell whose process it is (ECHELON_TASK_ID, ECHELON_ATTEMPT) among the first.
    environment: list[bytes]
    #: The task's own PATH.
    search: str
    #: Working directory.
    folder: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a main process ended: one of the two is set."""

    exit_code: int | None = None
    signal: int | None = None


class Process(Protocol):
    """A started command."""

    #: Becomes readable when the main process has ended.
    exit_fd: int
    #: Non-blocking; -1 where there is nothing to read. A pipe need not come to an end: see `Runtime.find_survivors`.
    stdout: int
    stderr: int

    def terminate(self) -> None:
        """Ask everything that belongs to it to end (SIGTERM)."""

    def kill(self) -> None:
        """End everything that belongs to it (SIGKILL). Asked again, it looks again."""

    def reap(self) -> Exit:
        """Return how the main process ended, and close `exit_fd`; once, and only after it has ended."""

    def release_pipes(self, *, clean: bool) -> bool:
        """Give up the pipes. Clean: read empty, and nothing is left that could write to them.

        Returns whether they stay open under the same numbers, to serve another process; else they are closed.
        """


class Runtime(Protocol):
    """Starts commands in one way."""

    def start_command(self, launch: Launch) -> Process:
        """Start a command; raise CannotStart."""

    def find_survivors(self, ended: Sequence[Process]) -> Collection[Process]:
        """Return those whose main process has ended while something of theirs still lives; call it before `reap`."""

    def reap_orphans(self) -> None:
        """Do now and then what need not be done for each task."""

    def close(self) -> None:
        """Let go of what the runtime holds; no process of it may be running."""
