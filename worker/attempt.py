"""One attempt from its start to its end: what the executor keeps of it, and the judgement of how it ended."""

from __future__ import annotations

import errno
import math
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from echelon.shared.messages import AttemptRef, Finished, GrantedTask, Outcome, SpawnedItems
from echelon.shared.volume.layout import Stream, log_entry
from echelon.worker.output import Capture, Masker
from echelon.worker.preparation import Places, PreparedGrant
from echelon.worker.runtimes.port import Exit, Process

#: Longest error in a report, in bytes.
ERROR_LIMIT: Final = 4 * 1024


class Phase(Enum):
    """How far an attempt is."""

    RUNNING = auto()
    #: Has been asked to end.
    TERMINATING = auto()
    #: Has been killed, and has not ended yet.
    KILLED = auto()
    #: The main process has ended, something that it left has not.
    LINGERING = auto()


class StartedAttempt:
    """A started attempt. Plain slots: thousands are made a second."""

    __slots__ = (
        "captures",
        "due",
        "ended",
        "give_up",
        "kill_at",
        "masker",
        "outcome",
        "phase",
        "places",
        "prepared",
        "process",
        "reason",
        "ref",
        "spare_from",
        "started",
        "task",
    )

    def __init__(
        self, prepared: PreparedGrant, task: GrantedTask, places: Places, masker: Masker, process: Process
    ) -> None:
        self.prepared, self.task, self.places, self.masker, self.process = prepared, task, places, masker, process
        self.ref = AttemptRef(task.task_id, task.attempt)
        #: Where its folder goes back to; None: the folder is its own for good.
        self.spare_from: str | None = None
        self.phase = Phase.RUNNING
        #: Moments on the monotonic clock: its begin; the end of its main process, if something outlived that; when
        #: there is something to do about it next; when what it left is killed; when no more is done about what cannot
        #: be killed.
        self.started = self.ended = 0.0
        self.due = self.kill_at = self.give_up = math.inf
        #: Set when it is ended from outside: what it ends with, and why.
        self.outcome: Outcome | None = None
        self.reason: str | None = None
        #: By stream; made with the first byte.
        self.captures: dict[Stream, Capture] | None = None

    def keep_output(self, stream: Stream, data: bytes, *, cap: int) -> None:
        """Keep what was printed next."""
        if self.captures is None:
            self.captures = {}
        capture = self.captures.get(stream)
        if capture is None:
            path = f"{self.prepared.stage_folder}/{log_entry(self.task.index, self.task.attempt, stream)}"
            capture = self.captures[stream] = Capture(path, cap=cap, masker=self.masker)
        capture.add_output(data)

    def close_captures(self) -> None:
        """Write what is held back of what was printed."""
        for capture in (self.captures or {}).values():
            capture.finish_file()


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended."""

    outcome: Outcome
    exit: Exit = Exit()  # noqa: RUF009
    error: str | None = None
    result: str | None = None
    spawned: SpawnedItems | None = None

    def add_note(self, note: str) -> AttemptEnd:
        """Return the ending with a remark added to its error."""
        return replace(self, error=f"{self.error}; {note}" if self.error else note)


def judge_exit(attempt: StartedAttempt, how: Exit, memory_ran_out: Callable[[], bool]) -> AttemptEnd:
    """Return what the end of the main process means by itself, files that it left apart."""
    if attempt.outcome is not None:
        return AttemptEnd(attempt.outcome, how, attempt.reason)
    if how.exit_code == 0:
        return AttemptEnd(Outcome.COMPLETED, how)
    if how.exit_code is None and how.signal is None:
        return AttemptEnd(Outcome.WORKER_FAULT, how, "how the process ended was lost: something else had waited for it")
    if (how.signal == signal.SIGKILL or how.exit_code == 128 + signal.SIGKILL) and memory_ran_out():
        return AttemptEnd(Outcome.OOM_KILLED, how, "the kernel ended it: out of memory")
    said = attempt.captures["stderr"].last_line() if attempt.captures and "stderr" in attempt.captures else ""
    what = f"exit code {how.exit_code}" if how.signal is None else f"ended by signal {signal_name(how.signal)}"
    return AttemptEnd(Outcome.FAILED, how, f"{what}: {said}" if said else what)


def build_report(attempt: StartedAttempt, ending: AttemptEnd, seconds: float) -> Finished:
    """Return the report of an attempt's end."""
    for stream, capture in (attempt.captures or {}).items():
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
    """Return a signal for people: its number and its name."""
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def describe_error(error: OSError) -> str:
    """Return an error of the operating system for people."""
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"


def shorten_error(text: str) -> str:
    """Return a text that fits into a report."""
    data = text.encode("utf-8", "replace")
    if len(data) <= ERROR_LIMIT:
        return data.decode("utf-8")
    return data[: ERROR_LIMIT - 3].decode("utf-8", "ignore") + "..."
