"""Quorum queues in the place of classic ones, also on a broker that still has those of an older run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.cluster import Cluster, Shape
from tests.system.drills import CATALOGUE, Job, whole
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    shape = Shape(controllers=1, workers=1, slots=2, datastore="sqlite", queue_type="quorum")
    with Cluster(tmp_path_factory.mktemp("queues"), CATALOGUE, shape) as one:
        yield one


def test_controller_and_worker_with_quorum_queues_run_a_job(cluster: Cluster) -> None:
    assert Job(cluster, "quick").finish() == "COMPLETED"
    kinds = dict(line.split()[:2] for line in cluster.rabbit.control("-q", "list_queues", "name", "type").splitlines())
    assert {kind for name, kind in kinds.items() if name.startswith("echelon.")} == {"quorum"}


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_the_queues_of_an_older_run_with_the_other_type_are_in_nobodys_way(cluster: Cluster, queue_type: str) -> None:
    running = Job(cluster, "wait")
    running.started()
    for program in cluster.programs:
        program.terminate()
    for program in cluster.programs:
        program.wait()

    cluster.turn_to(queue_type, cluster.programs)
    whole(cluster)

    assert Job(cluster, "quick").finish() == "COMPLETED"
    assert running.finish() == "COMPLETED"


def test_a_worker_of_the_other_type_says_that_nobody_answers_and_is_heard_when_that_is_mended(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    cluster.turn_to("classic", [worker])
    until(lambda: "--queue-type" in worker.log.read_text(), "it says so")

    cluster.turn_to("quorum", [worker])

    whole(cluster)
    assert Job(cluster, "quick").finish() == "COMPLETED"
