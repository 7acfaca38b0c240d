"""A started attempt: the executor's record of it, the judgement of its exit, and its report."""

from __future__ import annotations

import errno
import math
import signal
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import msgspec
from msgspec.structs import replace

from echelon.shared.messages import AttemptRef, Finished, GrantedTask, Outcome, SpawnedItems
from echelon.shared.volume.layout import Stream, log_name
from echelon.worker.output import Capture, Masker
from echelon.worker.preparation import Places, PreparedGrant
from echelon.worker.runtimes.port import Exit, Process

#: Longest error in a report, in bytes.
ERROR_LIMIT: Final = 4 * 1024


class Phase(Enum):
    """The phase of an attempt."""

    RUNNING = auto()
    #: It has got SIGTERM.
    TERMINATING = auto()
    #: It has got SIGKILL and has not ended yet.
    KILLED = auto()
    #: Its main process has ended; other processes survive.
    LINGERING = auto()


class StartedAttempt(msgspec.Struct, eq=False):
    """A started attempt, until its end has been reported. Times are seconds on the monotonic clock."""

    ref: AttemptRef
    prepared: PreparedGrant
    task: GrantedTask
    places: Places
    masker: Masker
    process: Process
    #: Where its folder is returned to; None: the folder is not reused.
    spare_from: str | None
    phase: Phase = Phase.RUNNING
    started: float = 0.0
    #: The end of its main process, if other processes survive that.
    ended: float = 0.0
    #: When the executor has to act on it next.
    due: float = math.inf
    #: When its processes are killed, and when the executor gives up on those that cannot be killed.
    kill_at: float = math.inf
    give_up: float = math.inf
    #: Set when it is ended from outside: its outcome and the reason.
    outcome: Outcome | None = None
    reason: str | None = None
    #: By stream; made with the first byte.
    captures: dict[Stream, Capture] = msgspec.field(default_factory=dict)

    def keep_output(self, stream: Stream, data: bytes, *, cap: int) -> None:
        """Add bytes that it has printed."""
        capture = self.captures.get(stream)
        if capture is None:
            grant, task = self.prepared.grant, self.task
            name = log_name(grant.job_id, grant.stage, task.index, task.attempt, stream)
            capture = self.captures[stream] = Capture(self.prepared.root, name, cap=cap, masker=self.masker)
        capture.add_output(data)

    def close_captures(self) -> None:
        """Write the output that is still in memory, and close the files."""
        for capture in self.captures.values():
            capture.finish_file()


class AttemptEnd(msgspec.Struct, frozen=True):
    """How an attempt ended."""

    outcome: Outcome
    exit: Exit = Exit()
    error: str | None = None
    result: str | None = None
    spawned: SpawnedItems | None = None

    def add_note(self, note: str) -> AttemptEnd:
        """Return this end with a note added to its error."""
        return replace(self, error=f"{self.error}; {note}" if self.error else note)


def judge_exit(attempt: StartedAttempt, how: Exit, memory_ran_out: Callable[[], bool]) -> AttemptEnd:
    """Judge an attempt by its main process's exit alone; its output files are judged later."""
    if attempt.outcome is not None:
        return AttemptEnd(attempt.outcome, how, attempt.reason)
    if how.exit_code == 0:
        return AttemptEnd(Outcome.COMPLETED, how)
    if how.exit_code is None and how.signal is None:
        return AttemptEnd(Outcome.WORKER_FAULT, how, "the exit status was lost: other code waited for the process")
    if (how.signal == signal.SIGKILL or how.exit_code == 128 + signal.SIGKILL) and memory_ran_out():
        return AttemptEnd(Outcome.OOM_KILLED, how, "the kernel ended it: out of memory")
    said = attempt.captures["stderr"].find_reason() if "stderr" in attempt.captures else ""
    what = f"exit code {how.exit_code}" if how.signal is None else f"ended by signal {signal_name(how.signal)}"
    return AttemptEnd(Outcome.FAILED, how, f"{what}: {said}" if said else what)


def build_report(attempt: StartedAttempt, ending: AttemptEnd, seconds: float) -> Finished:
    """Return the report of an attempt's end."""
    for stream, capture in attempt.captures.items():
        if capture.loss is not None:
            ending = ending.add_note(f"{stream} is not complete: {describe_error(capture.loss)}")
    error = ending.error
    return Finished(
        attempt.prepared.grant.job_id,
        attempt.task.task_id,
        attempt.task.attempt,
        ending.outcome,
        ending.exit.exit_code,
        ending.exit.signal,
        None if error is None else shorten_error(attempt.masker.mask_text(error)),
        seconds,
        None if ending.result is None else attempt.masker.mask_text(ending.result),
        ending.spawned,
    )


def signal_name(number: int) -> str:
    """Return a signal's number and name, for messages."""
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def describe_error(error: OSError) -> str:
    """Return an error of the operating system with its name, for messages."""
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"


def shorten_error(text: str) -> str:
    """Return a text cut to `ERROR_LIMIT` bytes."""
    data = text.encode("utf-8", "replace")
    if len(data) <= ERROR_LIMIT:
        return data.decode("utf-8")
    return data[: ERROR_LIMIT - 3].decode("utf-8", "ignore") + "..."
