"""With a lease far below the default one, too, tasks go on while no controller could give them to another worker.

With ECHELON_LONG=1 controllers are stopped and killed as well, and the lease is the default one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from echelon.shared.lease import DEFAULT_HEARTBEAT, DEFAULT_LEASE
from tests.system.cluster import Cluster, Shape
from tests.system.drills import CATALOGUE, Job, pass_by, whole

pytestmark = [pytest.mark.server, pytest.mark.slow]

LONG = "ECHELON_LONG" in os.environ
LEASE = DEFAULT_LEASE if LONG else 4.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    shape = Shape(workers=2, slots=2, lease=LEASE, heartbeat=DEFAULT_HEARTBEAT, max_losses=3)
    with Cluster(tmp_path_factory.mktemp("short"), CATALOGUE, shape) as one:
        whole(one)
        yield one


@contextmanager
def controllers_stopped(cluster: Cluster) -> Iterator[None]:
    for one in cluster.controllers:
        one.pause()
    yield
    for one in cluster.controllers:
        one.go_on()


@contextmanager
def controllers_killed(cluster: Cluster) -> Iterator[None]:
    for one in cluster.controllers:
        one.kill()
    yield
    for one in cluster.controllers:
        one.start()


@contextmanager
def broker_hung(cluster: Cluster) -> Iterator[None]:
    with cluster.rabbit.hung():
        yield


@pytest.mark.parametrize("outage", [controllers_stopped, controllers_killed, broker_hung] if LONG else [broker_hung])
def test_tasks_go_on_through_an_outage_of_more_than_a_lease_and_nothing_counts_as_lost(
    cluster: Cluster, outage: Callable[[Cluster], AbstractContextManager[None]]
) -> None:
    jobs = [Job(cluster, "patient") for _ in range(4)]
    for job in jobs:
        job.started()
    with outage(cluster):
        pass_by(2.0 * LEASE)
    pass_by(2.0 * LEASE)
    whole(cluster)

    assert [job.finish() for job in jobs] == ["COMPLETED"] * 4
    assert [(len(job.starts), job.attempts) for job in jobs] == [(1, 1)] * 4, "what ran was run again"
