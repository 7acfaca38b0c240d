"""One of two controllers stands still for longer than a lease, idle or with a transaction open, and goes on afterwards.

The other one acts meanwhile, and then both try to do the same work. Still nothing may be counted twice, no stage may
begin early or have other tasks than its items, and everything must end.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from echelon.shared.failpoints import VARIABLE
from tests.system.cluster import Cluster, Shape
from tests.system.drills import pass_by, whole
from tests.system.failpoints import state_of
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

ITEMS = 5
SPAWNED = ", ".join(["{}"] * ITEMS)
#: Each attempt notes every process of its own.
NOTE = 'echo x >> "noted.$0.$ECHELON_INDEX.$ECHELON_ATTEMPT"'
CATALOGUE = f"""
tasks:
  list:
    exec_command: bash
    exec_args: [-c, '{NOTE}; echo "[{SPAWNED}]" > spawn.json', list]
  work: {{exec_command: bash, exec_args: [-c, '{NOTE}', work]}}
  last: {{exec_command: bash, exec_args: [-c, '{NOTE}', last]}}
jobs:
  fan: {{stages: [{{name: Fan, spawn_task: list, task_class: work}}, {{name: Last, task_class: last}}]}}
"""
#: Of each job that has ended: the history of its stages, in order.
STAGES = """
    SELECT job_id, array_agg(kind || ' ' || stage ORDER BY number) FROM events JOIN jobs ON jobs.key = events.job
    WHERE kind IN ('stage_started', 'stage_completed') GROUP BY 1
"""
#: How many attempts of each task counted, by job, stage and index.
COUNTED = """
    SELECT job_id, stages.number, tasks.idx, count(*) FILTER (WHERE attempts.outcome = 'completed')
    FROM tasks JOIN stages ON stages.key = tasks.stage JOIN jobs ON jobs.key = stages.job
    LEFT JOIN attempts ON attempts.task = tasks.key GROUP BY 1, 2, 3
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("stopped"), CATALOGUE, Shape(workers=2, slots=2)) as one:
        yield one


def submit(cluster: Cluster) -> str:
    """Submit a job to the controller that never stands still."""
    answer = requests.post(f"{cluster.urls[0]}/api/v1/jobs", json={"type": "fan", "input": {}}, timeout=30.0)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def ended(cluster: Cluster, job_id: str) -> bool:
    return cluster.client().get_job(job_id)["ended_at"] is not None


def stand_still(cluster: Cluster) -> None:
    """Let more than a lease pass, in which the other controller answers and takes jobs."""
    pass_by(1.25 * cluster.shape.lease)
    assert requests.get(f"{cluster.urls[0]}/api/v1/jobs", timeout=30.0).status_code == 200


def judge(cluster: Cluster, job_ids: list[str]) -> None:
    """See all jobs end, and hold what came of them against what is promised."""
    for job_id in job_ids:
        until(lambda job_id=job_id: ended(cluster, job_id), f"job {job_id} ends")  # type: ignore[misc]
        assert cluster.client().get_job(job_id)["state"] == "COMPLETED"
    in_order = ["stage_started 0", "stage_completed 0", "stage_started 1", "stage_completed 1"]
    stages = dict(cluster.psql(STAGES))
    assert {job_id: stages[job_id] for job_id in job_ids} == dict.fromkeys(job_ids, in_order)
    counted = {(job_id, stage, index): count for job_id, stage, index, count in cluster.psql(COUNTED)}
    wanted = [(0, index) for index in range(-1, ITEMS)] + [(1, 0)]
    assert {key: count for key, count in counted.items() if key[0] in job_ids} == {
        (job_id, *place): 1 for job_id in job_ids for place in wanted
    }
    assert started_twice(cluster.volume) == []


def started_twice(volume: Path) -> list[str]:
    """Return the attempts of which more than one process has noted itself."""
    notes = volume.glob("jobs/*/work/noted.*")
    return [str(note) for note in notes if note.read_text() != "x\n"]


def test_a_controller_that_stood_still_while_it_was_idle_has_missed_nothing(cluster: Cluster) -> None:
    first = submit(cluster)
    until(lambda: ended(cluster, first), "the cluster works")

    cluster.controllers[1].pause()
    try:
        jobs = [submit(cluster) for _ in range(3)]
        stand_still(cluster)
    finally:
        cluster.controllers[1].go_on()

    judge(cluster, [first, *jobs])
    whole(cluster)


def test_a_controller_that_stood_still_within_its_transaction_and_the_one_that_acted_meanwhile_do_no_step_twice(
    cluster: Cluster,
) -> None:
    still = cluster.controllers[1]
    still.kill()
    still.start(**{VARIABLE: "settle.before_commit:stop"})
    whole(cluster)
    jobs = [submit(cluster)]

    def stands() -> bool:
        if stopped_at(still.log) is None and ended(cluster, jobs[-1]):
            # The other one has taken all the reports.
            jobs.append(submit(cluster))
        pid = stopped_at(still.log)
        return pid is not None and state_of(pid) == "T"

    until(stands, "it stands still with its transaction open")
    pid = stopped_at(still.log)
    assert pid is not None
    try:
        jobs.append(submit(cluster))
        stand_still(cluster)
    finally:
        os.kill(pid, signal.SIGCONT)

    judge(cluster, jobs)
    whole(cluster)


def stopped_at(log: Path) -> int | None:
    """Return the process that has reached the failpoint."""
    found = re.search(r"failpoint settle\.before_commit reached in process (\d+): stop", log.read_text())
    return int(found[1]) if found else None
