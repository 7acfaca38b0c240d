"""Runs attempts: starts their processes, reads their output, ends them on time, and reports how they ended.

One thread waits in one epoll for exits of processes, for output and for `wake`. An attempt is over when its main
process and all its other processes have ended. The executor does not wait for the end of a pipe.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from echelon.shared.clock import Clock
from echelon.shared.errors import EchelonError
from echelon.shared.failpoints import failpoint
from echelon.shared.messages import AttemptRef, Finished, Grant, GrantedTask, Outcome
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume
from echelon.shared.volume.layout import Stream
from echelon.shared.volume.starts import StartLog
from echelon.worker import spawnfile
from echelon.worker.attempt import AttemptEnd, Phase, StartedAttempt, build_report, judge_exit, shorten_error
from echelon.worker.environment import (
    make_temporary_folder,
    remove_temporary_folder,
    tasks_folder,
    temporary_folder,
)
from echelon.worker.launcher import Launcher
from echelon.worker.preparation import Preparation
from echelon.worker.rights import Rights, TaskUser
from echelon.worker.runtimes.oom import MemoryEvents
from echelon.worker.runtimes.port import CannotStart, Exit, Process, Runtime, StartRefused

log = logging.getLogger(__name__)

_READ: Final = 64 * 1024
#: Reads from one stream before it is another's turn. These empty any pipe whose writer has ended.
_READS_AT_ONCE: Final = 17
#: Seconds between two checks of survivors, between two attempts to kill, and between two searches for orphans.
_CHECK_AGAIN: Final = 0.005
_KILL_AGAIN: Final = 0.1
_REAP_EVERY: Final = 1.0
#: Events per epoll.
_EVENTS: Final = 1024


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """Settings of the executor. Durations are seconds, sizes are bytes."""

    #: Parent folder of the tasks' TMPDIR; None: the system's folder for temporary files. The TMPDIR's path, made of
    #: this and the worker's name, marks the tasks' processes: after a crash, the next process of the same worker kills
    #: the processes with this mark. No other worker may have the same path.
    temporary: str | None = None
    #: Size limit of one attempt's stdout, and of its stderr; head and tail are kept.
    log_cap: int = 16 * 1024 * 1024
    #: How long a task's surviving processes may still print before they are killed.
    drain: float = 0.1
    #: How long the executor tries to kill an attempt before it gives up: a process may hang in the kernel.
    give_up: float = 10.0
    #: Shortest time between two checks of the volume.
    volume_check: float = 1.0
    spawn: spawnfile.Limits = spawnfile.Limits()  # noqa: RUF009
    #: The user that tasks run as; None: the user of this process.
    user: TaskUser | None = None


class Executor:
    """Runs the attempts of one worker. One thread uses it; any thread may call `wake`."""

    def __init__(
        self,
        *,
        volume: Volume,
        runtime: Runtime,
        clock: Clock,
        worker_name: str,
        environ: Mapping[str, str],
        settings: ExecutorSettings,
        starts: StartLog,
    ) -> None:
        self._temporary = temporary = temporary_folder(worker_name, settings.temporary)
        make_temporary_folder(temporary)
        self._volume, self._runtime, self._clock, self._settings = volume, runtime, clock, settings
        rights = None
        if settings.user is not None:
            environ = {**environ, "HOME": settings.user.home}
            rights = Rights(volume, settings.user, tasks_folder(temporary))
        preparation = Preparation(
            root=volume.root,
            sealer=Sealer(volume),
            environ=environ,
            temporary=rights.temporary_of if rights is not None else lambda job_id: temporary,
        )
        self._launcher = Launcher(volume, runtime, preparation, settings.spawn, starts, rights)
        self._memory = MemoryEvents()
        self._epoll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._running: dict[AttemptRef, StartedAttempt] = {}
        self._exits: dict[int, StartedAttempt] = {}
        #: Streams of running attempts, and every pipe in the epoll: pipes outlive attempts.
        self._streams: dict[int, tuple[StartedAttempt, Stream]] = {}
        self._watched: set[int] = set()
        self._done: list[Finished] = []
        self._next_due = math.inf
        self._next_reap = self._next_check = -math.inf

    @property
    def running_attempts(self) -> Collection[AttemptRef]:
        """The attempts that have been started and whose end `poll_ended` has not returned yet."""
        return self._running.keys()

    def wake(self) -> None:
        """End a wait of `poll_ended`. Any thread may call it."""
        os.eventfd_write(self._wake_fd, 1)

    def start_attempt(self, grant: Grant, task: GrantedTask, may_start: Callable[[], bool]) -> bool:
        """Start an attempt. If that fails, `poll_ended` returns the failure as its end.

        When all is prepared, ask `may_start`; if it says no, start nothing, report nothing and return False.
        """
        now = self._clock.monotonic()
        try:
            if now >= self._next_check:
                self._volume.check_present()
                self._next_check = now + self._settings.volume_check
            self._launch_attempt(grant, task, now, may_start)
        except StartRefused:
            return False
        except CannotStart as error:
            outcome = Outcome.WORKER_FAULT if error.worker_fault else Outcome.NOT_STARTED
            self._report_unstarted(grant, task, outcome, str(error), begun=not error.worker_fault)
        except EchelonError as error:
            self._report_unstarted(grant, task, Outcome.WORKER_FAULT, str(error), begun=False)
        except Exception as error:
            # Without a report of its end, the attempt would keep its slot and its lease for ever.
            log.exception("an attempt was not started because of a bug in the worker")
            self._report_unstarted(grant, task, Outcome.WORKER_FAULT, f"a bug in the worker: {error!r}", begun=True)
        return True

    def poll_ended(self, timeout: float) -> list[Finished]:
        """Return the attempts that have ended; wait up to `timeout` seconds for an event."""
        if self._done:
            timeout = 0.0
        elif self._next_due is not math.inf:
            timeout = max(0.0, min(timeout, self._next_due - self._clock.monotonic()))
        ended: list[StartedAttempt] = []
        for fd, _ in self._epoll.poll(timeout, _EVENTS):
            attempt = self._exits.get(fd)
            if attempt is not None:
                ended.append(attempt)
            else:
                self._handle_readable(fd)
        if ended:
            self._handle_exits(ended)
        now = self._clock.monotonic()
        if now >= self._next_due:
            self._handle_due_attempts(now)
        if now >= self._next_reap:
            self._next_reap = now + _REAP_EVERY
            self._runtime.reap_orphans()
            if not self._running:
                self._launcher.close_starts()
        done, self._done = self._done, []
        return done

    def stop_attempt(self, ref: AttemptRef, outcome: Outcome, reason: str, *, grace: float = math.inf) -> None:
        """End an attempt's process tree with this outcome: SIGTERM, the task's grace (at most `grace`), SIGKILL."""
        attempt = self._running.get(ref)
        if attempt is None or attempt.outcome is not None:
            return
        now = self._clock.monotonic()
        if attempt.phase is Phase.LINGERING:
            # It has ended by itself; its surviving processes get no more time.
            attempt.kill_at = now
            return
        self._terminate_attempt(attempt, outcome, reason, now, min(attempt.prepared.recipe.grace, grace))

    def close(self) -> None:
        """Kill the running attempts and free all resources."""
        for attempt in [*self._running.values()]:
            attempt.process.kill()
        deadline = self._clock.monotonic() + self._settings.give_up
        while self._running and self._clock.monotonic() < deadline:
            self.poll_ended(_KILL_AGAIN)
        self._launcher.close()
        self._runtime.close()
        remove_temporary_folder(self._temporary)
        self._epoll.close()
        os.close(self._wake_fd)

    # --- start ------------------------------------------------------------------------------------------------------

    def _launch_attempt(self, grant: Grant, task: GrantedTask, now: float, may_start: Callable[[], bool]) -> None:
        attempt = self._launcher.start_attempt(grant, task, may_start)
        process = attempt.process
        try:
            failpoint("exec.after_spawn")
            self._epoll.register(process.exit_fd, select.EPOLLIN)
        except Exception:
            process.kill()
            select.select([process.exit_fd], [], [], self._settings.give_up)
            self._launcher.collect_outputs(attempt, AttemptEnd(Outcome.WORKER_FAULT, process.reap()), clean=False)
            process.release_pipes(clean=False)
            raise
        attempt.started = now
        if grant.recipe.timeout is not None:
            self._set_due(attempt, now + grant.recipe.timeout)
        self._running[attempt.ref] = attempt
        self._exits[process.exit_fd] = attempt
        self._watch_stream(attempt, process.stdout, "stdout")
        self._watch_stream(attempt, process.stderr, "stderr")

    def _watch_stream(self, attempt: StartedAttempt, fd: int, stream: Stream) -> None:
        if fd < 0:
            return
        self._streams[fd] = (attempt, stream)
        if fd not in self._watched:
            self._epoll.register(fd, select.EPOLLIN)
            self._watched.add(fd)

    def _report_unstarted(self, grant: Grant, task: GrantedTask, outcome: Outcome, error: str, *, begun: bool) -> None:
        self._done.append(
            Finished(grant.job_id, task.task_id, task.attempt, outcome, error=shorten_error(error), begun=begun)
        )

    # --- while it runs ----------------------------------------------------------------------------------------------

    def _handle_readable(self, fd: int) -> None:
        if fd == self._wake_fd:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(fd)
            return
        known = self._streams.get(fd)
        more = self._read_stream(fd, *known) if known is not None else self._read_stream(fd, None, "stdout")
        if not more:
            self._watched.discard(fd)
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def _read_stream(self, fd: int, attempt: StartedAttempt | None, stream: Stream) -> bool:
        """Read all that a stream holds now; return whether more may come. Without an attempt the data is dropped."""
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(fd, _READ)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            if attempt is not None:
                attempt.keep_output(stream, data, cap=self._settings.log_cap)
        return True

    def _set_due(self, attempt: StartedAttempt, when: float) -> None:
        attempt.due = when
        self._next_due = min(self._next_due, when)

    def _handle_due_attempts(self, now: float) -> None:
        for attempt in [attempt for attempt in self._running.values() if attempt.due <= now]:
            self._handle_due_attempt(attempt, now)
        self._next_due = min((attempt.due for attempt in self._running.values()), default=math.inf)

    def _handle_due_attempt(self, attempt: StartedAttempt, now: float) -> None:
        if attempt.phase is Phase.RUNNING:
            recipe = attempt.prepared.recipe
            reason = f"ran longer than its timeout of {recipe.timeout:g} s"
            self._terminate_attempt(attempt, Outcome.TIMED_OUT, reason, now, recipe.grace)
        elif attempt.phase is Phase.LINGERING:
            self._check_survivors(attempt, now)
        elif attempt.phase is Phase.KILLED and now >= attempt.give_up:
            self._abandon_attempt(attempt, now)
        else:
            self._kill_attempt(attempt, now)

    def _terminate_attempt(
        self, attempt: StartedAttempt, outcome: Outcome, reason: str, now: float, grace: float
    ) -> None:
        attempt.outcome, attempt.reason = outcome, reason
        if grace <= 0:
            self._kill_attempt(attempt, now)
            return
        attempt.process.terminate()
        attempt.phase = Phase.TERMINATING
        attempt.kill_at = now + grace
        self._set_due(attempt, attempt.kill_at)

    def _kill_attempt(self, attempt: StartedAttempt, now: float) -> None:
        attempt.process.kill()
        if attempt.phase is not Phase.KILLED:
            attempt.phase = Phase.KILLED
            attempt.kill_at, attempt.give_up = now, now + self._settings.give_up
        self._set_due(attempt, now + _KILL_AGAIN)

    # --- end --------------------------------------------------------------------------------------------------------

    def _handle_exits(self, ended: Iterable[StartedAttempt]) -> None:
        """Finish the attempts whose main process has ended, or wait for their survivors."""
        failpoint("exec.after_exit")
        known = [attempt for attempt in ended if attempt.ref in self._running]
        survivors: Collection[Process] = self._runtime.find_survivors([attempt.process for attempt in known])
        for attempt in ended:
            if attempt.ref not in self._running:
                self._reap_process(attempt, clean=False)
            elif attempt.process in survivors:
                self._await_survivors(attempt)
            else:
                self._finish_attempt(attempt, clean=attempt.phase is Phase.RUNNING)

    def _await_survivors(self, attempt: StartedAttempt) -> None:
        now = attempt.ended = self._clock.monotonic()
        self._epoll.unregister(attempt.process.exit_fd)
        if attempt.phase is Phase.RUNNING:
            attempt.kill_at = now + self._settings.drain
        attempt.phase = Phase.LINGERING
        attempt.give_up = max(now, attempt.kill_at) + self._settings.give_up
        self._set_due(attempt, now + _CHECK_AGAIN)

    def _check_survivors(self, attempt: StartedAttempt, now: float) -> None:
        if not self._runtime.find_survivors([attempt.process]):
            self._finish_attempt(attempt, clean=False)
        elif now >= attempt.give_up:
            self._finish_attempt(attempt, clean=False, note="it left processes behind that cannot be killed")
        else:
            if now >= attempt.kill_at:
                attempt.process.kill()
            self._set_due(attempt, now + _CHECK_AGAIN)

    def _finish_attempt(self, attempt: StartedAttempt, *, clean: bool, note: str | None = None) -> None:
        now = self._clock.monotonic()
        try:
            ending = self._collect_end(attempt, clean=clean)
        except Exception as error:
            # Without a report of its end, the attempt would keep its slot and its lease for ever.
            log.exception("the end of an attempt was not collected because of a bug in the worker")
            ending = AttemptEnd(Outcome.WORKER_FAULT, error=shorten_error(f"a bug in the worker: {error!r}"))
        if note is not None:
            ending = ending.add_note(note)
        del self._running[attempt.ref]
        self._done.append(build_report(attempt, ending, (attempt.ended or now) - attempt.started))

    def _collect_end(self, attempt: StartedAttempt, *, clean: bool) -> AttemptEnd:
        """Read the remaining output, reap the main process, and return how it ended with its outputs."""
        process = attempt.process
        if process.stdout >= 0:
            self._read_stream(process.stdout, attempt, "stdout")
        if process.stderr >= 0:
            self._read_stream(process.stderr, attempt, "stderr")
        attempt.close_captures()
        ending = judge_exit(attempt, self._reap_process(attempt, clean=clean), self._memory.detect_kill)
        return self._launcher.collect_outputs(attempt, ending, clean=clean)

    def _reap_process(self, attempt: StartedAttempt, *, clean: bool) -> Exit:
        """Reap the main process, release its pipes, and return its exit."""
        process = attempt.process
        del self._exits[process.exit_fd]
        how = process.reap()
        kept = process.release_pipes(clean=clean)
        for fd in (process.stdout, process.stderr):
            self._streams.pop(fd, None)
            if not kept:
                self._watched.discard(fd)
        return how

    def _abandon_attempt(self, attempt: StartedAttempt, now: float) -> None:
        """Report the end of an attempt whose process hangs in the kernel; the process is reaped if it ends later."""
        for fd in (attempt.process.stdout, attempt.process.stderr):
            if self._streams.pop(fd, None) is not None:
                self._watched.discard(fd)
                self._epoll.unregister(fd)
        attempt.close_captures()
        ending = AttemptEnd(attempt.outcome or Outcome.FAILED, error=attempt.reason)
        del self._running[attempt.ref]
        self._done.append(build_report(attempt, ending.add_note("its process cannot be killed"), now - attempt.started))
