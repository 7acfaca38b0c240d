"""Two controllers on one store: what one of them changes, the other does not overlook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.shared.messages import Outcome
from echelon.shared.sealing import Sealer
from tests.engine.house import House, Puppet
from tests.engine.jobs import reopen

CATALOGUE = """
    tasks:
      list:
        exec_command: "true"
      fetch:
        input:
          url: {source: parameter}
          token: {source: parameter, secret: true}
        exec_command: echo
        exec_args: ["--", "{url}"]
    jobs:
      fetch:
        input:
          url: {source: parameter}
          token: {source: http-header, key: Authorization}
        stages: [{name: Fetch, task_class: fetch}]
      many:
        input:
          token: {source: http-header, key: Authorization}
        stages: [{name: Fetch, spawn_task: list, task_class: fetch}]
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[House, House]]:
    houses = House(tmp_path, CATALOGUE), House(tmp_path, CATALOGUE)
    yield houses
    for house in houses:
        house.close()


def test_a_retry_at_one_controller_reaches_the_tasks_that_the_other_grants(pair: tuple[House, House]) -> None:
    here, there = pair
    worker = Puppet(there)
    job_id = here.submit("fetch", {"Authorization": ["old"]}, url="a")
    worker.heartbeat()
    worker.finish(worker.take(), Outcome.FAILED)

    reopen(here.jobs, job_id, {"Authorization": ["new"]}, url="b")
    worker.heartbeat()
    grant, _ = worker.take()

    assert Sealer(there.volume).open_text(grant.sealed["token"]) == "new"
    assert grant.input == {"url": "b"}


def test_items_are_read_with_the_inputs_that_the_job_has_now(pair: tuple[House, House]) -> None:
    here, there = pair
    worker = Puppet(there)
    job_id = here.submit("many", {"Authorization": ["old"]})
    worker.heartbeat()
    worker.finish(worker.take(), Outcome.FAILED)
    # What was learned of a job while it had no secrets must not outlive that.
    there.jobs.snapshots.forget_job(job_id)
    there.jobs.snapshots.find_definition(job_id)

    reopen(here.jobs, job_id, {"Authorization": ["new"]})
    worker.heartbeat()
    worker.finish(worker.take(), items=[{"url": "a"}])
    there.turn()

    assert [task.error for task in there.tasks(job_id) if task.index >= 0] == [None]
