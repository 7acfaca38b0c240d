"""Live control over a real RabbitMQ and real workers: what is ended hears of it soon, with the broker away too."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from echelon.controller.client.control import Verb
from echelon.shared.lease import RETURN_TIME
from tests.system.cluster import Cluster, Shape
from tests.system.drills import Show, whole, within
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Seconds in which a running task hears of its end.
PROMISED = 2.0
LEASE = 6.0
#: Seconds within which a controller finds out that it can hear again.
SWEEP = 1.0
#: Each attempt notes itself and a process that it has started, and both would go on for long.
CATALOGUE = """
tasks:
  tree:
    grace: 1s
    exec_command: bash
    exec_args: [-c, 'sleep 1000 & echo "$$ $!" > "pids.$ECHELON_INDEX.$ECHELON_ATTEMPT.new";
      mv "pids.$ECHELON_INDEX.$ECHELON_ATTEMPT.new" "pids.$ECHELON_INDEX.$ECHELON_ATTEMPT"; wait']
  again:
    grace: 1s
    retry: {limit: 3, delay: 0s}
    exec_command: bash
    exec_args: [-c, 'sleep 1000 & echo "$$ $!" > "pids.$ECHELON_INDEX.$ECHELON_ATTEMPT.new";
      mv "pids.$ECHELON_INDEX.$ECHELON_ATTEMPT.new" "pids.$ECHELON_INDEX.$ECHELON_ATTEMPT"; wait']
  list:
    exec_command: bash
    exec_args: [-c, 'echo "[{}, {}, {}, {}]" > spawn.json']
  quick: {exec_command: "true"}
jobs:
  tree: {stages: [{name: Tree, task_class: tree}]}
  again: {stages: [{name: Again, task_class: again}]}
  four: {stages: [{name: Four, spawn_task: list, task_class: again}, {name: Behind, task_class: quick}]}
  quick: {stages: [{name: Quick, task_class: quick}]}
"""
#: A task that waits for a file.
WAIT = "'while [ ! -e GO ]; do sleep 0.05; done'"


class Trees:
    """A job whose tasks are processes that have started others."""

    def __init__(self, cluster: Cluster, kind: str) -> None:
        self.client = cluster.client()
        self.job_id = self.client.submit_job(kind)["job_id"]
        self._folder = cluster.volume / "jobs" / self.job_id / "work"

    @property
    def began(self) -> set[str]:
        """Return "index.attempt" of everything that has ever started."""
        return {file.name.removeprefix("pids.") for file in self._folder.glob("pids.*") if file.suffix != ".new"}

    def started(self, count: int, attempt: int = 1) -> list[int]:
        """Wait until so many tasks run, in this attempt or (a lost order costs one) later; return the processes."""
        until(lambda: len(self._in(attempt)) >= count, f"{count} tasks of {self.job_id} run")
        return [int(pid) for file in self._in(attempt) for pid in file.read_text().split()]

    def _in(self, attempt: int) -> list[Path]:
        found = self._folder.glob("pids.*.*")
        return [file for file in found if file.suffix != ".new" and int(file.suffix[1:]) >= attempt]

    def task(self) -> str:
        """Return its task once the start has been told, a moment after it."""
        until(lambda: next(self.client.list_tasks(self.job_id))["state"] == "RUNNING", "its task is shown as running")
        return next(self.client.list_tasks(self.job_id))["task_id"]

    def state(self) -> str:
        return self.client.get_job(self.job_id)["state"]


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster whose workers renew their leases so rarely that only a message can tell them of an end in time."""
    shape = Shape(controllers=1, workers=2, slots=2, datastore="sqlite", lease=90.0, heartbeat=30.0)
    with Cluster(tmp_path_factory.mktemp("patient"), CATALOGUE, shape) as one:
        yield one


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster with a short lease, to take its broker away."""
    shape = Shape(controllers=2, workers=2, slots=2, datastore="postgresql", lease=LEASE)
    with Cluster(tmp_path_factory.mktemp("short"), CATALOGUE, shape) as one:
        whole(one)
        yield one


@pytest.mark.parametrize(("verb", "state"), [("cancel", "CANCELLED"), ("kill", "FAILED"), ("skip", "COMPLETED")])
def test_what_runs_on_a_worker_is_gone_soon_with_all_that_it_has_started(
    patient: Cluster, record_property: Show, verb: Verb, state: str
) -> None:
    trees = Trees(patient, "tree")
    pids = trees.started(1)
    begun = time.monotonic()

    trees.client.change_task(verb, trees.task())
    until(lambda: gone(pids), "its processes are gone")
    taken = time.monotonic() - begun

    # Long before a renewal is due: a message has told.
    within(taken, PROMISED, record_property)
    until(lambda: trees.state() == state, f"its job is {state}")


def test_a_running_task_that_is_retried_is_killed_first_and_runs_again(patient: Cluster, record_property: Show) -> None:
    trees = Trees(patient, "tree")
    first = trees.started(1)
    begun = time.monotonic()

    trees.client.change_task("retry", trees.task())
    second = trees.started(1, attempt=2)
    taken = time.monotonic() - begun

    assert gone(first) and not gone(second), "one attempt at a time"
    within(taken, PROMISED, record_property)
    trees.client.cancel_job(trees.job_id)
    until(lambda: gone(second), "its processes are gone")


@dataclass
class Outages:
    """Remembers the last one."""

    #: When workers could be heard again, on the monotonic clock.
    over_at: float = -math.inf

    @property
    def forgotten(self) -> bool:
        """Tell whether leases are as long as usual: they are longer for as long as workers may be on their way back."""
        return time.monotonic() > self.over_at + RETURN_TIME + SWEEP


@pytest.fixture(scope="module")
def outages() -> Outages:
    """Give what is remembered of outages of the short cluster."""
    return Outages()


def one_that_waits(cluster: Cluster) -> Trees:
    """Give a job that waits for the broker. One that is accepted just before the loss is noticed may be on its way."""
    accepted: list[Trees] = []

    def waits() -> bool:
        accepted.append(Trees(cluster, "quick"))
        return accepted[-1].client.explain_job(accepted[-1].job_id)["code"] == "BROKER_DOWN"

    until(waits, "the controller misses its broker")
    return accepted[-1]


@contextmanager
def broker_away(cluster: Cluster, outages: Outages) -> Iterator[Trees]:
    """Take the broker away; give a job that waits for it, and that has run when it is back."""
    until(lambda: outages.forgotten, "leases are as long as usual")
    cluster.rabbit.stop(signal.SIGKILL)
    try:
        waiting = one_that_waits(cluster)
        yield waiting
    finally:
        cluster.rabbit.start()
    until(lambda: waiting.state() == "COMPLETED", "what waited for the broker has run")
    whole(cluster)
    outages.over_at = time.monotonic()


@pytest.fixture
def beside(short: Cluster) -> Iterator[Trees]:
    """Give a job that runs all the while, of which nothing is asked; its one task is never touched."""
    whole(short)
    job = Trees(short, "tree")
    pids = job.started(1)
    yield job
    assert not gone(pids) and len(job.began) == 1, "what nobody has ended goes on while the broker is away"
    job.client.cancel_job(job.job_id)
    until(lambda: gone(pids), "its processes are gone")


def test_with_the_broker_away_a_cancelled_job_is_gone_within_a_lease_and_nothing_of_it_starts_when_it_is_back(
    short: Cluster, outages: Outages, beside: Trees, record_property: Show
) -> None:
    job = Trees(short, "four")
    pids = job.started(3)
    assert len(job.began) == 3, "the fourth waits for a slot"
    with broker_away(short, outages):
        begun = time.monotonic()
        job.client.cancel_job(job.job_id)
        assert job.state() == "CANCELLED"
        until(lambda: gone(pids), "its processes are gone")
        within(time.monotonic() - begun, LEASE, record_property)

    assert len(job.began) == 3
    assert job.state() == "CANCELLED"


def test_with_the_broker_away_a_killed_task_is_gone_within_a_lease_and_runs_again_when_it_is_back(
    short: Cluster, outages: Outages, beside: Trees, record_property: Show
) -> None:
    job = Trees(short, "again")
    pids = job.started(1)
    with broker_away(short, outages):
        begun = time.monotonic()
        job.client.change_task("kill", job.task())
        until(lambda: gone(pids), "its processes are gone")
        within(time.monotonic() - begun, LEASE, record_property)
        assert len(job.began) == 1

    second = job.started(1, attempt=2)
    job.client.cancel_job(job.job_id)
    until(lambda: gone(second), "its processes are gone")
    assert len(job.began) == 2


def test_a_drained_worker_ends_after_its_task_and_the_others_go_on(tmp_path: Path) -> None:
    shape = Shape(controllers=1, workers=2, slots=1, datastore="sqlite")
    catalogue = CATALOGUE.replace(
        'quick: {exec_command: "true"}', f"quick: {{exec_command: sh, exec_args: [-c, {WAIT}]}}"
    )
    with Cluster(tmp_path, catalogue.replace("GO", str(tmp_path / "go")), shape) as cluster:
        whole(cluster)
        client = cluster.client()
        job_id = client.submit_job("quick")["job_id"]
        until(lambda: any(one["running"] for one in client.list_workers()), "a worker runs it")
        (busy,) = [one for one in client.list_workers() if one["running"]]

        client.drain_worker(busy["worker_id"])
        client.drain_worker(busy["worker_id"])
        states = {one["worker_id"]: one["state"] for one in client.list_workers()}
        until(lambda: "DRAINING" in [one["state"] for one in client.list_workers()], "it drains")
        assert client.get_job(job_id)["state"] == "RUNNING"
        (tmp_path / "go").touch()

        until(lambda: client.get_job(job_id)["state"] == "COMPLETED", "its task has ended")
        until(lambda: len(client.list_workers()) == 1, "it has left")
        task = next(client.list_tasks(job_id))
        assert task["attempt"] == 1 and len(states) == 2
        assert client.submit_job("quick", wait=30.0)["state"] == "COMPLETED"
