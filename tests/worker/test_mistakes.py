"""A mistake at any step of a worker costs that step, not the worker and not an attempt: tried by raising there."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from echelon.shared import failpoints
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.clock import SystemClock
from echelon.shared.failpoints import VARIABLE, FailpointReached, arm_failpoints
from echelon.shared.messages import ANY_QUEUE, REPORTS, Outcome, WorkerCard, orders_queue
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.heartbeat import Heartbeat
from echelon.worker.liveness.report_log import ReportLog
from echelon.worker.runtimes import proc
from echelon.worker.slots import Slots
from tests.worker.stand import WORKER, Stand, finished
from tests.worker.workbench import Workbench


@pytest.fixture(autouse=True)
def disarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_armed", None)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, slots={ANY_QUEUE: 2})


@pytest.mark.parametrize("step", ["exec.before_spawn", "exec.after_spawn"])
def test_an_attempt_that_was_not_started_by_mistake_ends_as_the_workers_fault_and_leaves_nothing(
    tmp_path: Path, step: str
) -> None:
    bench = Workbench(tmp_path)
    arm_failpoints({VARIABLE: f"{step}:raise"})

    failed = bench.run("sleep", "1000")
    again = bench.run("true")

    assert (failed.outcome, again.outcome) == (Outcome.WORKER_FAULT, Outcome.COMPLETED)
    assert failed.error is not None and "FailpointReached" in failed.error
    assert not [pid for pid in proc.every_pid() if _sleeps_here(pid, tmp_path)]
    bench.executor.close()


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ("exec.after_exit", Outcome.COMPLETED),
        ("spawn.before_write", Outcome.WORKER_FAULT),
        ("spawn.after_write", Outcome.WORKER_FAULT),
    ],
)
def test_the_end_of_an_attempt_is_told_whatever_goes_wrong_when_it_is_looked_at(
    tmp_path: Path, step: str, outcome: Outcome
) -> None:
    bench = Workbench(tmp_path)
    arm_failpoints({VARIABLE: f"{step}:raise"})
    ref = bench.start("sh", "-c", 'echo "[]" > $ECHELON_SPAWN_FILE', index=-1, spawns=True)

    with contextlib.suppress(FailpointReached):
        bench.end(ref)

    assert bench.end(ref).outcome is outcome
    assert not bench.executor.running_attempts
    assert bench.run("true").outcome is Outcome.COMPLETED
    bench.executor.close()


def _sleeps_here(pid: int, folder: Path) -> bool:
    return any(entry.startswith(os.fsencode(f"TMPDIR={folder}")) for entry in proc.environment_of(pid))


def test_a_mistake_in_one_heartbeat_is_not_the_last_heartbeat() -> None:
    broker, clock = MemoryBroker(), SystemClock()
    controller = broker.subscribe([REPORTS], prefetch=10)
    heartbeat = Heartbeat(
        WorkerCard("w", "host", 1, "0", {ANY_QUEUE: 1}),
        broker,
        worker=WORKER,
        holdings=Holdings(Slots({ANY_QUEUE: 1}, ahead=0.1, ahead_limit=64), clock),
        sent=ReportLog(clock),
        interval=0.01,
    )
    arm_failpoints({VARIABLE: "heartbeat.before_publish:raise"})
    heart = threading.Thread(target=heartbeat.run, daemon=True)
    heart.start()
    try:
        assert controller.take_deliveries(limit=1, timeout=20.0)
    finally:
        heartbeat.stop()
        heart.join()


def test_results_that_were_not_sent_by_mistake_are_sent_again(stand: Stand) -> None:
    (ref,) = stand.run()
    end = stand.executor.end(ref)
    stand.reports()
    arm_failpoints({VARIABLE: "result.before_publish:raise"})
    with pytest.raises(FailpointReached):
        stand.turn()

    stand.turn()
    stand.turn(after=10.0)

    assert finished(stand.reports()) == [end]


def test_orders_that_were_taken_in_with_a_mistake_are_off_the_broker(stand: Stand) -> None:
    refs = stand.tasks(2)
    stand.grant(refs, answers=stand.beat().number)
    arm_failpoints({VARIABLE: "orders.before_ack:raise"})
    with pytest.raises(FailpointReached):
        stand.turn()

    stand.turn()

    assert stand.executor.started == refs
    stand.subscription.close()
    assert not stand.broker.subscribe([orders_queue(WORKER)], prefetch=10).take_deliveries(limit=1, timeout=0.0)
