"""A runtime without processes, for tests of the modules above it: each command follows a plan."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from echelon.shared.messages import AttemptRef
from echelon.worker.runtimes.port import CannotStart, Exit, Launch, Process, StartRefused

WELL: Final = Exit(exit_code=0)


@dataclass(frozen=True, slots=True)
class Plan:
    """The behaviour of one command."""

    #: How it ends at once; None: the test ends it.
    exit: Exit | None = WELL
    #: Its output, at most 64 KiB each.
    stdout: bytes = b""
    stderr: bytes = b""
    #: Raised instead of starting it.
    error: CannotStart | None = None
    #: It ignores SIGTERM.
    stubborn: bool = False
    #: Called when it starts: writes its files, say.
    act: Callable[[Launch], None] | None = None


class FakeProcess:
    """A command that does not run."""

    def __init__(self, plan: Plan, ref: AttemptRef) -> None:
        self.ref = ref
        self.signals: list[signal.Signals] = []
        self.reaped = False
        self._plan = plan
        self._exit: Exit | None = None
        self.exit_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.stdout, self.stderr = _fill_pipe(plan.stdout), _fill_pipe(plan.stderr)
        if plan.exit is not None:
            self.end_process(plan.exit)

    def end_process(self, how: Exit) -> None:
        """End now; does nothing if it has ended."""
        if self._exit is None:
            self._exit = how
            os.eventfd_write(self.exit_fd, 1)

    def terminate(self) -> None:
        self.signals.append(signal.SIGTERM)
        if not self._plan.stubborn:
            self.end_process(Exit(signal=signal.SIGTERM))

    def kill(self) -> None:
        self.signals.append(signal.SIGKILL)
        self.end_process(Exit(signal=signal.SIGKILL))

    def reap(self) -> Exit:
        os.close(self.exit_fd)
        self.reaped = True
        assert self._exit is not None, "reaped before it ended"
        return self._exit

    def release_pipes(self, *, clean: bool) -> bool:
        for fd in (self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        return False


class FakeRuntime:
    """Its plans are given by command, one for all, or as a function of the launch. One thread uses it."""

    def __init__(self, plans: Mapping[str, Plan] | Callable[[Launch], Plan] | Plan | None = None) -> None:
        self._plans = plans or Plan()
        #: Everything that was started, in order.
        self.launches: list[Launch] = []
        self.processes: dict[AttemptRef, FakeProcess] = {}

    def start_command(self, launch: Launch) -> Process:
        plan = self._choose_plan(launch)
        if plan.error is not None:
            raise plan.error
        if not launch.may_start():
            raise StartRefused
        self.launches.append(launch)
        if plan.act is not None:
            plan.act(launch)
        process = FakeProcess(plan, launch.ref)
        self.processes[launch.ref] = process
        return process

    def end_attempt(self, ref: AttemptRef, how: Exit = WELL) -> None:
        """End a running command; this wakes its executor."""
        self.processes[ref].end_process(how)

    def find_survivors(self, ended: Sequence[Process]) -> Sequence[Process]:
        return ()

    def reap_orphans(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _choose_plan(self, launch: Launch) -> Plan:
        if isinstance(self._plans, Plan):
            return self._plans
        if isinstance(self._plans, Mapping):
            return self._plans.get(os.fsdecode(launch.command), Plan())
        return self._plans(launch)


def _fill_pipe(content: bytes) -> int:
    if not content:
        return -1
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.write(writer, content)
    os.close(writer)
    return reader
