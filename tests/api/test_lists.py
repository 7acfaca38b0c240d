"""Lists: several states, times, order; and honest answers where nothing can be found."""

from __future__ import annotations

import pytest

from tests.api.live import done
from tests.api.stand import API, Stand


def ids(stand: Stand, query: str = "") -> list[str]:
    return [job["job_id"] for job in stand.get(f"/jobs{query}")["items"]]


def test_jobs_of_several_states_are_one_list(stand: Stand) -> None:
    completed = stand.finished()["job_id"]
    cancelled = stand.post()["job_id"]
    done(stand, f"/jobs/{cancelled}/cancel")
    running = stand.post()["job_id"]

    assert ids(stand, "?state=COMPLETED,CANCELLED") == [cancelled, completed]
    assert ids(stand, "?state=completed&state=Running") == [running, completed]
    assert ids(stand, "?state=FAILED,SKIPPED") == []
    assert len(stand.get(f"/jobs/{cancelled}/tasks?state=cancelled,failed")["items"]) == 1


def test_jobs_are_cut_out_by_times_and_put_in_order(stand: Stand) -> None:
    first, second = stand.post(), stand.post()
    changed = done(stand, f"/jobs/{first['job_id']}/pause")

    after = second["created_at"]
    assert ids(stand, f"?created_before={first['created_at']}") == []
    assert ids(stand, "?created_after=2020-01-01&order=oldest") == [first["job_id"], second["job_id"]]
    assert ids(stand, "?created_before=2020-01-01T00:00:00%2B01:00") == []
    assert first["job_id"] in ids(stand, f"?updated_after={after}")
    assert changed["updated_at"] >= after > "2020"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("created_after=yesterday", "#/query/created_after"),
        ("updated_after=2026-11-30T12:00:00+01:00", "#/query/updated_after"),
        ("created_before=", "#/query/created_before"),
        ("state=FAILED,", "#/query/state"),
        ("state=", "#/query/state"),
        ("state=QUEUED", "#/query/state"),
        ("order=up", "#/query/order"),
        ("order=newest&order=oldest", "#/query/order"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(stand: Stand, query: str, pointer: str) -> None:
    answer = stand.client.get(f"{API}/jobs?{query}")

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)


def test_a_cursor_goes_on_in_the_same_order(stand: Stand) -> None:
    made = [stand.post()["job_id"] for _ in range(3)]

    page = stand.get("/jobs?limit=2&order=oldest&state=RUNNING,FAILED")
    rest = stand.get(f"/jobs?limit=2&order=oldest&state=RUNNING,FAILED&cursor={page['next_cursor']}")

    assert [job["job_id"] for job in page["items"] + rest["items"]] == made
    assert rest["next_cursor"] is None


def test_tasks_of_a_stage_that_is_not_there_are_not_found(stand: Stand) -> None:
    job_id = stand.post("fan")["job_id"]

    answer = stand.client.get(f"{API}/jobs/{job_id}/tasks?stage=9")

    assert (answer.status_code, answer.json["detail"]) == (
        404, f"job {job_id} has no stage 9: they are numbered from 0 to 1",
    )  # fmt: skip


def test_a_slash_at_the_end_is_forgiven(stand: Stand) -> None:
    job = stand.post()

    for path in ("/jobs", f"/jobs/{job['job_id']}", f"/jobs/{job['job_id']}/tasks", "/workers", "/definitions"):
        assert stand.client.get(f"{API}{path}/").status_code == 200, path
    assert stand.client.post(f"{API}/jobs/", json={"type": "hello"}).status_code == 201
    assert stand.client.post(f"{API}/jobs/{job['job_id']}/cancel/").status_code == 200
    assert stand.client.get(f"{API}/jobs//").status_code == 404


def test_the_states_of_a_verb_are_read_in_any_case(stand: Stand) -> None:
    job_id = stand.post()["job_id"]

    assert done(stand, f"/jobs/{job_id}/cancel?state=queued")["changed"]["tasks"] == 1
