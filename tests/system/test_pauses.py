"""A worker that goes on after a pause, in a short form; `python -m tests.system.pauses` does more rounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.cluster import Cluster
from tests.system.pauses import CATALOGUE, SHAPE, Start, drill, find_stale

pytestmark = pytest.mark.server


@pytest.mark.slow
def test_a_worker_that_goes_on_after_a_pause_starts_nothing_that_ran_elsewhere_or_was_cancelled(tmp_path: Path) -> None:
    with Cluster(tmp_path, CATALOGUE, replace(SHAPE, datastore="sqlite")) as cluster:
        findings = drill(cluster, 1, seed="1", kinds=["paused", "paused, and cancelled meanwhile"])

    assert findings["paused"].taken_over > 0
    assert [found.complaints for found in findings.values()] == [[], []]


def test_the_drill_notices_an_attempt_that_starts_after_the_next_one() -> None:
    starts = [Start(7, 2, 10.0, "w2"), Start(7, 1, 12.5, "w1"), Start(8, 1, 10.0, "w1"), Start(8, 2, 11.0, "w2")]

    assert list(find_stale(starts)) == ["task 7: attempt 1 started 2.500 s after attempt 2"]
