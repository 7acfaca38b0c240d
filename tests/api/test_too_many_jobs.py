"""More jobs than may be open: what is answered, and what is taken all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.stand import API, Stand

HELLO = {"type": "hello", "input": {}}


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path, max_open_jobs=1)
    yield made
    made.close()


def test_one_more_than_may_be_open_is_answered_with_429_and_says_what_is_full_and_what_to_do(stand: Stand) -> None:
    stand.post()

    refused = stand.client.post(f"{API}/jobs", json=HELLO)

    assert (refused.status_code, refused.content_type) == (429, "application/problem+json")
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json["title"] == "Too Many Requests"
    for said in ("1 are open", "at most 1 may be", "when some have ended", "max_open_jobs"):
        assert said in refused.json["detail"]
    assert len(stand.get("/jobs")["items"]) == 1


def test_a_request_that_comes_again_is_answered_with_its_job(stand: Stand) -> None:
    first = stand.client.post(f"{API}/jobs", json=HELLO, headers={"Idempotency-Key": "k"})

    again = stand.client.post(f"{API}/jobs", json=HELLO, headers={"Idempotency-Key": "k"})
    other = stand.client.post(f"{API}/jobs", json=HELLO, headers={"Idempotency-Key": "l"})

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 429)
    assert again.json["job_id"] == first.json["job_id"]


def test_what_is_wrong_with_a_request_is_told_however_many_jobs_are_open(stand: Stand) -> None:
    stand.post()

    assert stand.client.post(f"{API}/jobs", json={"type": "nothing", "input": {}}).status_code == 422


def test_a_job_that_has_ended_may_be_retried_though_no_more_are_taken(stand: Stand) -> None:
    job_id = stand.post()["job_id"]
    stand.client.post(f"{API}/jobs/{job_id}/cancel")

    assert stand.client.post(f"{API}/jobs", json=HELLO).status_code == 429, "nobody has counted since"
    assert stand.client.post(f"{API}/jobs/{job_id}/retry").status_code == 200


def test_the_answer_is_documented(stand: Stand) -> None:
    responses = stand.client.get("/openapi.json").json["paths"][f"{API}/jobs"]["post"]["responses"]

    assert "Retry-After" in responses["429"]["description"]
