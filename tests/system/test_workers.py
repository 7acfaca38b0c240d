"""Workers that die, come back, are asked to end, or are killed by what they run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from echelon.controller.settings import Settings
from tests.system.cluster import Cluster, Program, Shape
from tests.system.drills import (
    CATALOGUE,
    Job,
    Show,
    controllers_restarted,
    drain_ends,
    drained,
    many_cancelled,
    pass_by,
    whole,
    within,
    worker_gone,
    worker_restarted,
)
from tests.system.gauges import gauge
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: With ECHELON_LONG=1 a task prints 10 GiB.
LONG = bool(os.environ.get("ECHELON_LONG"))
MIB = 1 << 20
MAX_OUTPUT = Settings().max_output


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # With a heartbeat that alone would be too slow for the lease: workers learn of that from their orders.
    shape = Shape(workers=2, slots=2, max_losses=3, heartbeat=5.0)
    with Cluster(tmp_path_factory.mktemp("workers"), CATALOGUE, shape) as one:
        yield one


def test_the_task_of_a_worker_that_was_killed_runs_elsewhere_within_lease_and_sweep(
    cluster: Cluster, record_property: Show
) -> None:
    within(worker_gone(cluster), cluster.shape.lease + 1.0, record_property, asserted=cluster.shape.lease + 3.0)


def test_the_task_of_a_worker_that_is_started_again_runs_again_at_once(cluster: Cluster, record_property: Show) -> None:
    within(worker_restarted(cluster), 2.0, record_property, asserted=4.0)


def test_a_task_that_is_longer_than_leases_runs_once(cluster: Cluster) -> None:
    job = Job(cluster, "wait")
    job.started()
    pass_by(2.0 * cluster.shape.lease)
    assert job.finish() == "COMPLETED"
    assert len(job.starts) == job.attempts == 1


def test_a_worker_that_is_asked_to_end_hands_its_task_over(cluster: Cluster, record_property: Show) -> None:
    within(drained(cluster), 2.0, record_property, asserted=4.0)


def test_a_worker_whose_task_ignores_its_end_is_gone_soon_after_drain_timeout_and_grace(
    cluster: Cluster, record_property: Show
) -> None:
    within(drain_ends(cluster), 1.0, record_property, asserted=5.0)


def test_a_cancel_of_thousands_is_answered_soon_and_none_of_them_starts_once_workers_have_heard(
    cluster: Cluster, record_property: Show
) -> None:
    within(many_cancelled(cluster, 5_000), 2.0, record_property)


def test_controllers_that_are_killed_and_started_again_answer_and_go_on(
    cluster: Cluster, record_property: Show
) -> None:
    # Two of them compute at once.
    within(controllers_restarted(cluster), 2.0, record_property, asserted=20.0)


def test_what_a_task_prints_costs_its_worker_no_memory_and_the_volume_no_more_than_the_limit(
    cluster: Cluster, record_property: Show
) -> None:
    size = 10 << 30 if LONG else 300 << 20
    before = {worker.name: gauge(worker.pid).memory for worker in cluster.workers}
    most = dict(before)
    job = Job(cluster, "flood", size=size)

    def ended() -> bool:
        most.update({one.name: max(most[one.name], gauge(one.pid).memory) for one in cluster.workers})
        return cluster.client().get_job(job.job_id)["ended_at"] is not None

    until(ended, "it has printed all", 240.0)
    log = cluster.volume / "jobs" / job.job_id / "attempts" / "0" / "0-1.stdout"
    grown = max(most[name] - before[name] for name in before)
    record_property(
        "shown", f"{size >> 20} MiB printed; {grown / MIB:.1f} MiB more memory; log {log.stat().st_size} bytes"
    )

    task = next(cluster.client().list_tasks(job.job_id))
    assert (task["exit_code"], task["attempt"]) == (7, 1)
    assert grown <= 10 * MIB
    assert log.stat().st_size <= MAX_OUTPUT + 1000
    with log.open("rb") as file:
        kept = file.read()
    assert kept.startswith(b"y\ny\n") and kept.endswith(b"y\nlast\n")


def test_a_task_that_kills_its_worker_three_times_is_failed_and_says_so_and_its_neighbours_go_on(
    cluster: Cluster,
) -> None:
    over = threading.Event()
    guards = [threading.Thread(target=_keep_alive, args=(worker, over)) for worker in cluster.workers]
    for guard in guards:
        guard.start()
    try:
        poison, neighbour = Job(cluster, "poison"), Job(cluster, "quick")
        assert neighbour.finish() == "COMPLETED"
        assert poison.finish() == "FAILED"
    finally:
        over.set()
        for guard in guards:
            guard.join()
    whole(cluster)
    task = next(cluster.client().list_tasks(poison.job_id))
    attempts = cluster.client().get_task(task["task_id"])["attempts"]

    outcomes = [one["outcome"] for one in attempts]
    # An attempt that came to a worker too late to be started is handed back, and counts for nothing.
    assert outcomes.count("lost") == 3 and set(outcomes) <= {"lost", "interrupted"}
    assert len(poison.starts) == 3
    assert "worker_lost" in str(task["error"])
    assert Job(cluster, "quick").finish() == "COMPLETED"


def _keep_alive(worker: Program, over: threading.Event) -> None:
    """Start a worker again whenever it has died, as a service manager does."""
    while not over.wait(0.1):
        if not worker.running:
            worker.wait()
            worker.start()
    until(lambda: worker.running, "the worker lives")
