"""The smoke profile of the chaos: a minute of faults on real processes, for every run of the tests.

`python -m tests.system --help` has the long one; docs/evidence/reliability.md has its figures.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
from pathlib import Path

import pytest

from echelon.shared.broker.port import Outgoing
from echelon.shared.messages import REPORTS, Outcome
from tests.engine.house import House, Puppet, ref
from tests.engine.jobs import CATALOGUE
from tests.engine.test_starts import attempts, first
from tests.system.blows import KNOWN_CLAIMS, make_stale_reports
from tests.system.chaos import PROFILES, run_chaos
from tests.system.cluster import Shape
from tests.system.nemesis import Fault, read_schedule, schedule

SEED = int(os.environ.get("ECHELON_CHAOS_SEED", "1"))


@pytest.mark.server
@pytest.mark.slow
def test_no_promise_is_broken_by_a_minute_of_faults(tmp_path: Path) -> None:
    summary = run_chaos(SEED, PROFILES["smoke"], tmp_path)

    assert not summary["violations"], json.dumps(summary, indent=2)
    assert int(str(summary["faults"])) >= 15
    assert int(str(summary["processes of tasks"])) >= 50


def test_a_seed_is_always_the_same_schedule() -> None:
    def first(seed: int) -> list[Fault]:
        faults = schedule(seed, Shape(), gap=1.0)
        return [next(faults) for _ in range(200)]

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_a_schedule_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "schedule.jsonl"
    file.write_text('{"at": 1.5, "kind": "worker.kill", "target": "worker1", "seconds": 2.0, "seed": 3}\n')

    assert list(read_schedule(file)) == [Fault(1.5, "worker.kill", "worker1", 2.0, 3)]


def test_reports_that_the_chaos_sends_late_make_no_attempt_of_a_claim_that_was_handed_back(tmp_path: Path) -> None:
    house = House(tmp_path, CATALOGUE)
    worker = Puppet(house)
    back, failed = house.submit("retried"), house.submit("retried")
    waits = worker.take_ahead()
    worker.finish(worker.take(), Outcome.FAILED)
    worker.report(released=(ref(waits),), room={})
    before = [first(house, job_id) for job_id in (back, failed)]

    with sqlite3.connect(house.settings.volume / ".echelon" / "echelon.db") as connection:
        reports = make_stale_reports(connection.execute(KNOWN_CLAIMS).fetchall(), random.Random(1))
    house.broker.publish([Outgoing(REPORTS, report) for report in reports])
    house.turn()

    assert {report.worker for report in reports} == {worker.worker}
    assert {one.task_id for report in reports for one in report.finished} == {task.task_id for task in before}
    assert [first(house, job_id) for job_id in (back, failed)] == before
    assert [len(attempts(house, job_id)) for job_id in (back, failed)] == [0, 1]
    worker.room = {"*": 1}
    worker.heartbeat()
    assert worker.take_ahead()[1].number == 1
    house.close()
