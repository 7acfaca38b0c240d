"""Items whose bytes would not fit into one message, over a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.cluster import Cluster, Shape
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: More than a message may have, granted to one worker at once.
ITEMS, BYTES = 32, 600 * 1024
PARTS = [f"part{number}" for number in range(12)]
CATALOGUE = f"""
tasks:
  list:
    exec_command: python3
    exec_args:
    - -c
    - |
      import json
      item = dict.fromkeys({PARTS}, "x" * {BYTES // len(PARTS)})
      json.dump([item] * {ITEMS}, open("spawn.json", "w"))
  weigh:
    input: {{{", ".join(f"{part}: {{source: parameter}}" for part in PARTS)}}}
    env: {{PART: "{{part11}}"}}
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_INDEX $ECHELON_ATTEMPT ${{#PART}}" >> starts']
jobs:
  large: {{stages: [{{name: Large, spawn_task: list, task_class: weigh}}]}}
"""


def test_a_fan_out_of_large_items_runs_each_of_them_once(tmp_path: Path) -> None:
    with Cluster(tmp_path, CATALOGUE, Shape(controllers=1, workers=1, slots=ITEMS, datastore="sqlite")) as cluster:
        job_id = cluster.client().submit_job("large")["job_id"]
        until(lambda: cluster.client().get_job(job_id)["ended_at"] is not None, "the job ends")

        assert cluster.client().get_job(job_id)["state"] == "COMPLETED"
        starts = (cluster.volume / "jobs" / job_id / "work" / "starts").read_text().splitlines()
        assert sorted(starts) == sorted(f"{number} 1 {BYTES // len(PARTS)}" for number in range(ITEMS))
