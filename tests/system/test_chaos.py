"""The smoke profile of the chaos: a minute of faults on real processes, for every run of the tests.

`python -m tests.system --help` has the long one; docs/evidence/reliability.md has its figures.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

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
