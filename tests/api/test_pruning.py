"""Many ended jobs are removed by one call, or measured."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.stand import API, Stand
from tests.engine.house import Puppet


def test_ended_jobs_go_and_open_ones_stay(stand: Stand) -> None:
    puppet = Puppet(stand)
    ended = [stand.submit("hello") for _ in range(3)]
    puppet.run_all()
    running = stand.submit("hello")

    def prune(**body: Any) -> Any:
        response = stand.client.post(f"{API}/prune", json=body)
        assert response.status_code == 200, response.text
        return response.json

    assert prune(older_than=3600) == {"jobs": 0, "bytes": 0, "next": None}
    assert prune(older_than=0, type="fan")["jobs"] == 0
    assert prune(older_than=0, dry_run=True)["jobs"] == 3
    assert prune(older_than=0)["jobs"] == 3
    assert [stand.client.get(f"{API}/jobs/{job_id}").status_code for job_id in ended] == [404] * 3
    assert stand.client.get(f"{API}/jobs/{running}").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {}, {"older_than": None}, {"older_than": -1}, {"older_than": "30d"}, {"older_than": True},
        {"older_than": 1e308}, {"older_than": 0, "dry_run": "no"}, {"older_than": 0, "dry_run": 1},
        {"older_than": 0, "after": -1}, {"older_than": 0, "after": 1.5}, {"older_than": 0, "after": 2**63},
        {"older_than": 0, "type": "a\0b"}, {"older_than": 0, "older": 1}, [],
    ],
)  # fmt: skip
def test_a_request_that_is_not_clear_removes_nothing(stand: Stand, body: object) -> None:
    puppet = Puppet(stand)
    job_id = stand.submit("hello")
    puppet.run_all()

    assert stand.client.post(f"{API}/prune", json=body).status_code == 422
    assert stand.client.get(f"{API}/jobs/{job_id}").status_code == 200
