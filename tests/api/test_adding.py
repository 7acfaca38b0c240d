"""Tasks that are added to a stage over REST, one or a list, checked like the items of a spawn.json."""

from __future__ import annotations

import pytest

from echelon.controller import shapes
from tests.api.live import do, done, states, task_of, work
from tests.api.shape import assert_shape
from tests.api.stand import API, Stand
from tests.engine.house import Puppet


def open_job(stand: Stand) -> str:
    """Return a job whose second stage has no tasks of its own."""
    return str(stand.post("open")["job_id"])


def test_one_task_and_a_list_of_them_are_added_and_run_when_their_stage_does(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = open_job(live)

    one = do(live, f"/jobs/{job_id}/stages/1/tasks", {"url": "a"}, X_Request_ID="r-add")
    more = done(live, f"/jobs/{job_id}/stages/1/tasks", [{"url": "b"}, {"url": "c"}])

    assert (one.status_code, one.headers["ETag"] != "") == (201, True)
    assert_shape(one.json, shapes.AddedTasks)
    assert (one.json["first_index"], more["first_index"], len(more["task_ids"])) == (0, 1, 2)
    assert live.get(f"/tasks/{more['task_ids'][1]}")["input"] == {"url": "c"}
    (added, _) = [e for e in live.get(f"/jobs/{job_id}/events")["items"] if e["kind"] == "tasks_added"]
    assert (added["stage"], added["detail"]) == (1, {"tasks": 1, "request_id": "r-add"})
    while work(puppet, 5) or puppet.granted:
        puppet.run_all()
    assert (states(live, job_id, 1), live.get(f"/jobs/{job_id}")["state"]) == (["COMPLETED"] * 3, "COMPLETED")


def test_a_task_that_is_added_paused_waits_until_it_is_resumed(live: Stand) -> None:
    job_id = open_job(live)
    added = done(live, f"/jobs/{job_id}/stages/1/tasks?paused=true", [{"url": "a"}], X_Request_ID="r-1")

    task = live.get(f"/tasks/{added['task_ids'][0]}")
    assert (task["paused"], task["paused_by"]) == (True, "request r-1")
    assert done(live, f"/tasks/{task['task_id']}/resume")["paused"] is False


def test_a_stage_that_runs_has_to_be_paused_first(live: Stand) -> None:
    job_id = str(live.post("open")["job_id"])
    stage = f"/jobs/{job_id}/stages/0"

    running = do(live, f"{stage}/tasks", {})
    done(live, f"{stage}/pause")
    paused = do(live, f"{stage}/tasks", {})
    done(live, f"{stage}/cancel")
    ended = do(live, f"{stage}/tasks", {})

    assert [one.status_code for one in (running, paused, ended)] == [409, 201, 409]
    assert "pause it first" in running.json["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"uri": "a"}, "#/uri"),
        ({}, "#/url"),
        ([{"url": "a"}, {"uri": "b"}], "#/1/uri"),
        ([{"url": "a"}, "b"], "#/1"),
        ([], "#"),
        ("a", "#"),
        (7, "#"),
        ({"tasks": [{"url": "a"}]}, "#/tasks"),
    ],
)
def test_a_mistake_is_told_with_its_place_in_the_body_and_nothing_is_added(
    live: Stand, body: object, pointer: str
) -> None:
    job_id = open_job(live)

    answer = do(live, f"/jobs/{job_id}/stages/1/tasks", body)

    assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), answer.text
    assert pointer in [one["pointer"] for one in answer.json["errors"]], answer.json
    assert live.get(f"/jobs/{job_id}/stages/1")["total"] == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"{", 400), (b'{"url": "a", "url": "b"}', 400), (b'{"url": "\\u0000"}', 422), (b"\xff", 400)],
)
def test_what_is_no_json_adds_nothing(live: Stand, data: bytes, status: int) -> None:
    job_id = open_job(live)

    answer = live.client.post(f"{API}/jobs/{job_id}/stages/1/tasks", data=data, content_type="application/json")

    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert live.get(f"/jobs/{job_id}/stages/1")["total"] == 0


def test_a_secret_of_an_added_task_is_never_shown(live: Stand) -> None:
    job = done(live, "/jobs", {"type": "again", "paused": True}, Authorization="of-the-job")
    job_id = job["job_id"]

    done(live, f"/jobs/{job_id}/stages/0/tasks", {"token": "S3CR3T"})

    assert task_of(live, job_id, 0, 1)["input"]["token"] == "********"
    for part in ("", "/events", "/tasks"):
        assert "S3CR3T" not in live.client.get(f"{API}/jobs/{job_id}{part}").text
