"""A whole worker in this process: real commands, the in-process broker, and the test in the controller's place."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Outgoing
from echelon.shared.clock import SystemClock
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId, new_job_id, new_task_ids
from echelon.shared.messages import (
    ANY_QUEUE,
    REPORTS,
    Finished,
    Grant,
    GrantedTask,
    Orders,
    Outcome,
    Recipe,
    Report,
    orders_queue,
)
from echelon.shared.volume import Volume, workspace_name
from echelon.worker.serve import WorkerService, build_worker
from echelon.worker.settings import WorkerSettings
from tests.worker.workbench import can_make_cgroups

PATIENCE = 20.0


class Desk:
    """Sits where a controller does."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.subscription = broker.subscribe([REPORTS], prefetch=100_000)
        self.heard: list[Report] = []
        self.orders = 0

    def hear_until(self, enough: Callable[[Report], object]) -> Report:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for delivery in self.subscription.take_deliveries(limit=1, timeout=1.0):
                self.subscription.ack([delivery])
                assert isinstance(delivery.message, Report)
                self.heard.append(delivery.message)
                if enough(delivery.message):
                    return delivery.message
        raise AssertionError(f"not heard; the last reports: {self.heard[-5:]}")

    def grant(self, report: Report, job: JobId, script: str, count: int = 1) -> None:
        self.orders += 1
        tasks = tuple(GrantedTask(task_id, 1, index) for index, task_id in enumerate(new_task_ids(count)))
        recipe = Recipe(task_class="t", exec_command="sh", exec_args=("-c", script), grace=0.5)
        grant = Grant(job, 0, "Stage", "r1", "default", recipe, {}, {}, tasks)
        orders = Orders(report.worker, self.orders, report.number, 15.0, (grant,))
        self.broker.publish([Outgoing(orders_queue(report.worker), orders)])

    def ends(self, count: int) -> list[Finished]:
        ends: list[Finished] = []
        while len(ends) < count:
            ends += self.hear_until(lambda report: report.finished).finished
        return ends


@pytest.fixture
def desk() -> Iterator[Desk]:
    broker = MemoryBroker()
    yield Desk(broker)
    broker.close(timeout=1.0)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    volume = Volume.create(tmp_path / "volume")
    volume.install_files("r1", None)
    return volume


@pytest.fixture
def hire(tmp_path: Path, desk: Desk, volume: Volume) -> Iterator[Callable[..., WorkerService]]:
    hired: list[WorkerService] = []

    def build(**settings: object) -> WorkerService:
        chosen = WorkerSettings(state_dir=tmp_path / "state", name="w", slots={ANY_QUEUE: 2}, heartbeat=0.1, **settings)  # type: ignore[arg-type]
        worker = build_worker(
            chosen, broker=desk.broker, volume=volume, clock=SystemClock(), environ={"PATH": "/usr/bin:/bin"}
        )
        hired.append(worker)
        return worker

    yield build
    for worker in hired:
        worker.stop()


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        os.sched_yield()


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def room(report: Report) -> bool:
    return bool(report.room and sum(report.room.values()))


def test_a_command_runs_and_its_end_comes_back(desk: Desk, hire: Callable[..., WorkerService]) -> None:
    hire().start()

    desk.grant(desk.hear_until(room), new_job_id(), "echo hello; echo made > result.txt; exit 3")

    (end,) = desk.ends(1)
    assert (end.outcome, end.exit_code) == (Outcome.FAILED, 3)


def test_a_drained_worker_finishes_what_runs_and_says_goodbye(
    desk: Desk, hire: Callable[..., WorkerService], volume: Volume
) -> None:
    worker = hire()
    worker.start()
    report = desk.hear_until(room)
    job = new_job_id()
    desk.grant(report, job, 'echo x > "$ECHELON_JOB_DIR/begun"; while [ ! -e go ]; do :; done')
    workspace = Path(volume.absolute_path(workspace_name(job)))
    wait_for(lambda: (workspace / "begun").exists())

    worker.drain()
    desk.hear_until(lambda report: report.room == {ANY_QUEUE: 0})
    (workspace / "go").touch()

    assert desk.ends(1)[0].outcome is Outcome.COMPLETED
    desk.hear_until(lambda report: report.goodbye)
    assert worker.join(PATIENCE)


def test_draining_twice_interrupts_what_runs(desk: Desk, hire: Callable[..., WorkerService]) -> None:
    worker = hire()
    worker.start()
    desk.grant(desk.hear_until(room), new_job_id(), "sleep 600")
    desk.hear_until(lambda report: report.running)

    worker.drain()
    worker.drain()

    assert desk.ends(1)[0].outcome is Outcome.INTERRUPTED
    assert worker.join(PATIENCE)


def test_stop_kills_what_runs_and_the_next_life_names_the_dead_one(
    desk: Desk, hire: Callable[..., WorkerService]
) -> None:
    first = hire()
    first.start()
    desk.grant(desk.hear_until(room), new_job_id(), "sleep 600")
    desk.hear_until(lambda report: report.running)

    first.stop()

    assert first.join(0.0)
    second = hire()
    second.start()
    assert desk.hear_until(lambda report: report.worker == second.id).buried == (first.id,)


@pytest.mark.parametrize("wrapper", ["", "env -i"])
def test_a_killed_worker_leaves_nothing_running_once_its_next_life_has_begun(
    desk: Desk, hire: Callable[..., WorkerService], volume: Volume, tmp_path: Path, wrapper: str
) -> None:
    if wrapper and not can_make_cgroups():
        pytest.skip("this user cannot make cgroups of version 2 here")
    job = new_job_id()
    life = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.doomed", str(tmp_path / "state"), volume.root, job, wrapper],
        stdout=subprocess.PIPE,
    )
    workspace = Path(volume.absolute_path(workspace_name(job)))
    wait_for(lambda: (workspace / "pid").exists() and (workspace / "pid").read_text().endswith("\n"))
    daemon = int((workspace / "pid").read_text())
    life.kill()
    assert life.stdout is not None
    dead = life.stdout.readline().decode().strip()
    life.communicate(timeout=PATIENCE)

    worker = hire()
    worker.start()

    assert desk.hear_until(lambda report: report.worker == worker.id).buried == (dead,)
    wait_for(lambda: not alive(daemon))


def test_two_workers_of_one_name_cannot_be_built(hire: Callable[..., WorkerService]) -> None:
    hire()

    with pytest.raises(Conflict):
        hire()


def test_a_worker_that_never_started_can_be_stopped(hire: Callable[..., WorkerService]) -> None:
    worker = hire()

    worker.stop()

    assert worker.join(0.0)


def test_leaving_twice_or_too_often_does_no_harm(desk: Desk, hire: Callable[..., WorkerService]) -> None:
    worker = hire()
    worker.start()
    for _ in range(5):
        worker.drain()
    assert worker.join(PATIENCE)

    worker.drain()
    worker.stop()
    worker.stop()

    assert worker.join(0.0)


def test_attempts_of_a_stage_run_in_the_slots_there_are(desk: Desk, hire: Callable[..., WorkerService]) -> None:
    hire().start()
    desk.grant(desk.hear_until(room), new_job_id(), "true", count=40)

    ends = desk.ends(40)

    assert {end.outcome for end in ends} == {Outcome.COMPLETED}
    assert len({end.task_id for end in ends}) == 40
