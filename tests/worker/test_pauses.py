"""A worker that was paused (SIGSTOP, suspend) at any step of its turn starts nothing that has ended meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from echelon.shared.clock import SystemClock
from echelon.shared.messages import ANY_QUEUE, AttemptRef, Outcome
from echelon.worker.runtimes import proc
from echelon.worker.runtimes.process import ProcessRuntime
from echelon.worker.runtimes.spawning import PosixSpawn, Spawner, spawn_with_popen
from tests.system.process import until
from tests.worker.stand import Stand, released
from tests.worker.workbench import Workbench

#: A lease of 3 s ends for its worker 1.8 s after the report that asked for it.
LEASE, LONGER, SHORTER = 3.0, 1.9, 0.5
STEPS = ("preparing", "asked", "started")


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    made = Stand(tmp_path, slots={ANY_QUEUE: 2})
    made.lease = LEASE
    return made


def pause_once(stand: Stand, step: str, seconds: float, *, cancel: bool = False) -> None:
    """Pause the worker at its next start; what is granted last is cancelled meanwhile."""

    def pause() -> None:
        del stand.executor.pauses[step]
        stand.clock.now += seconds
        if cancel:
            stand.stop(stand.granted[-1])

    stand.executor.pauses[step] = pause


@pytest.mark.parametrize("step", STEPS)
def test_after_a_pause_that_outlasts_the_lease_no_other_attempt_starts(stand: Stand, step: str) -> None:
    pause_once(stand, step, LONGER)
    second = stand.run(2)[1]

    assert second not in stand.executor.started
    stand.turn()
    assert second not in stand.executor.started


def test_an_attempt_whose_lease_ends_while_it_is_prepared_does_not_start_and_is_handed_back(stand: Stand) -> None:
    refs = stand.tasks(2)
    stand.grant(refs, answers=stand.beat().number)
    pause_once(stand, "preparing", LONGER)

    stand.turn()

    assert stand.executor.started == []
    assert released(stand.reports()) == refs
    assert len(stand.holdings) == 0


@pytest.mark.parametrize("step", ["asked", "started"])
def test_an_attempt_whose_lease_ends_as_it_starts_is_killed_at_once(stand: Stand, step: str) -> None:
    pause_once(stand, step, LONGER)

    (ref,) = stand.run()

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]
    assert stand.executor.graces == [0.0]


def test_no_order_delays_that_kill(stand: Stand) -> None:
    pause_once(stand, "asked", LONGER, cancel=True)

    (ref,) = stand.run()

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]


@pytest.mark.parametrize("step", STEPS)
def test_after_a_pause_the_worker_hears_of_a_cancel_before_it_starts_another_attempt(stand: Stand, step: str) -> None:
    pause_once(stand, step, SHORTER, cancel=True)

    refs = stand.run(2)

    assert stand.executor.started == refs[:1]


def test_a_cancel_that_comes_while_an_attempt_is_prepared_keeps_it_from_starting(stand: Stand) -> None:
    pause_once(stand, "preparing", SHORTER, cancel=True)

    stand.run(1)

    assert stand.executor.started == []
    assert len(stand.holdings) == 0


def test_an_attempt_that_is_slow_to_prepare_starts_all_the_same(stand: Stand) -> None:
    refs = stand.tasks(2)
    stand.grant(refs, answers=stand.beat().number)
    pause_once(stand, "preparing", SHORTER)

    stand.turn()

    assert stand.executor.started == refs


def test_a_lease_that_was_renewed_while_an_attempt_was_prepared_still_holds(stand: Stand) -> None:
    (ref,) = stand.tasks()
    stand.grant([ref], answers=stand.beat().number)

    def be_slow() -> None:
        stand.clock.now += 1.5
        stand.renew(answers=stand.beat().number)
        stand.clock.now += 1.5

    stand.executor.pauses["preparing"] = be_slow
    stand.turn()

    assert stand.executor.started == [ref]
    assert stand.executor.stopped == []


@pytest.mark.parametrize("make_spawner", [PosixSpawn, lambda: spawn_with_popen], ids=["posix_spawn", "subprocess"])
def test_a_start_that_is_refused_last_of_all_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, make_spawner: Callable[[], Spawner]
) -> None:
    bench = Workbench(tmp_path, runtime=ProcessRuntime(sole_parent=False, spawner=make_spawner()))
    bench.may_start = lambda: False
    ref = bench.start("touch", "started")

    assert bench.refused
    assert ref not in bench.executor.running_attempts
    bench.may_start = lambda: True
    assert bench.shell("ls").outcome is Outcome.COMPLETED
    assert bench.log() == b""
    assert ref not in bench.ended
    bench.executor.close()


def test_the_start_is_written_down_before_the_last_question_so_that_no_disk_comes_between_answer_and_start(
    tmp_path: Path,
) -> None:
    bench = Workbench(tmp_path)
    written: list[str] = []

    def refuse() -> bool:
        written.extend(path.read_text() for path in Path(bench.volume.root).rglob("starts/*"))
        return False

    bench.may_start = refuse
    ref = bench.start("true")

    assert bench.refused
    assert [text.split()[:2] for text in written] == [[ref.task_id, str(ref.attempt)]]
    bench.executor.close()


def test_a_process_that_is_killed_does_nothing_while_its_descendants_are_looked_for(tmp_path: Path) -> None:
    class Watched(ProcessRuntime):
        """Waits until the main process stands still before it looks for the others."""

        def signal_family(self, ref: AttemptRef, main: int, number: signal.Signals) -> None:
            until(lambda: (status := proc.status_of(main)) is not None and status.state == "T", "it stands still")
            super().signal_family(ref, main, number)

    bench = Workbench(tmp_path, runtime=Watched(sole_parent=False))
    ref = bench.start("sleep", "60")

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "lease_lost", grace=0.0)

    assert bench.end(ref).outcome is Outcome.STOPPED
    bench.executor.close()


def test_the_clock_of_leases_goes_on_while_the_machine_is_suspended() -> None:
    """In a namespace whose clock that counts suspends is a day ahead of the one that does not."""
    script = (
        "from echelon.shared.clock import SystemClock; import time; print(SystemClock().monotonic() - time.monotonic())"
    )
    command = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "86400", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespace of time here: {done.stderr.strip()}")

    assert float(done.stdout) > 80_000
    assert SystemClock().monotonic() > 0
