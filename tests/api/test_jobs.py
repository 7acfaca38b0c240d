from __future__ import annotations

import uuid
from typing import Any

import pytest

from echelon.controller import shapes
from tests.api.shape import assert_shape
from tests.api.stand import API, Stand
from tests.engine.house import Puppet


def submit(stand: Stand, body: object, **headers: str) -> Any:
    return stand.client.post(f"{API}/jobs", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_submitted_job_is_answered_with_201_its_place_and_all_of_its_stages(stand: Stand) -> None:
    response = submit(stand, {"type": "fan", "input": {"text": "x"}})

    job = response.json
    assert response.status_code == 201
    assert response.headers["Location"] == f"{API}/jobs/{job['job_id']}"
    assert response.headers["ETag"] == f'"{job["etag"]}"'
    assert_shape(job, shapes.Job)
    assert (job["type"], job["input"], job["failed_tasks"], job["error"]) == ("fan", {"text": "x"}, 0, None)
    assert [(stage["number"], stage["name"], stage["total"]) for stage in job["stages"]] == [
        (0, "Prepare", 1),
        (1, "Say all", None),
    ]
    assert job["stages"][1]["spawn_state"] == "PENDING"
    assert stand.get(f"/jobs/{job['job_id']}")["job_id"] == job["job_id"]


def test_times_are_utc_with_milliseconds(stand: Stand) -> None:
    job = stand.finished()

    for name in ("created_at", "started_at", "ended_at"):
        assert len(job[name]) == len("2026-01-31T12:00:00.000Z") and job[name].endswith("Z")


def test_the_same_key_and_body_give_the_same_job_even_after_it_ended(stand: Stand) -> None:
    body = {"type": "hello", "input": {"text": "x"}}
    first = submit(stand, body, Idempotency_Key="k-1")
    stand.turn()
    Puppet(stand).run_all()

    again = submit(stand, body, Idempotency_Key="k-1")

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json["job_id"] == first.json["job_id"]
    assert again.json["state"] == "COMPLETED"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]


def test_the_same_key_with_another_body_is_a_conflict(stand: Stand) -> None:
    submit(stand, {"type": "hello", "input": {"text": "x"}}, Idempotency_Key="k-1")

    other = submit(stand, {"type": "hello", "input": {"text": "y"}}, Idempotency_Key="k-1")

    assert other.status_code == 409
    assert "Idempotency-Key" in other.json["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_a_key_that_cannot_be_kept_is_refused(stand: Stand, key: str) -> None:
    response = submit(stand, {"type": "hello", "input": {}}, Idempotency_Key=key)

    assert response.status_code == 422
    assert response.json["errors"][0]["pointer"] == "#/headers/Idempotency-Key"


def test_a_wait_for_a_job_that_has_ended_is_answered_at_once(stand: Stand) -> None:
    job = stand.finished()

    response = stand.client.get(f"{API}/jobs/{job['job_id']}", headers={"Prefer": "respond-async, wait=3600"})

    assert response.json["state"] == "COMPLETED"
    assert response.headers["Preference-Applied"] == "wait=60"


def test_what_has_not_changed_is_not_sent_again(stand: Stand) -> None:
    job = stand.post()
    path = f"{API}/jobs/{job['job_id']}"
    etag = stand.client.get(path).headers["ETag"]

    unchanged = stand.client.get(path, headers={"If-None-Match": etag})
    Puppet(stand).run_all()
    changed = stand.client.get(path, headers={"If-None-Match": etag})

    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert (changed.status_code, changed.headers["ETag"] != etag) == (200, True)


def test_jobs_are_listed_newest_first_page_by_page(stand: Stand) -> None:
    made = [stand.post(text=str(number))["job_id"] for number in range(5)]

    first = stand.get("/jobs?limit=2")
    second = stand.get(f"/jobs?limit=2&cursor={first['next_cursor']}")
    newcomer = stand.post()["job_id"]
    third = stand.get(f"/jobs?limit=2&cursor={second['next_cursor']}")

    listed = [job["job_id"] for page in (first, second, third) for job in page["items"]]
    assert listed == made[::-1]
    assert newcomer not in listed
    assert third["next_cursor"] is None


def test_jobs_are_found_by_state_type_and_text(stand: Stand) -> None:
    done = stand.finished("hello", text="needle")["job_id"]
    other = stand.post("fan", text="hay")["job_id"]

    assert [job["job_id"] for job in stand.get("/jobs?state=COMPLETED")["items"]] == [done]
    assert [job["job_id"] for job in stand.get("/jobs?type=fan")["items"]] == [other]
    assert [job["job_id"] for job in stand.get("/jobs?q=needle")["items"]] == [done]
    assert stand.get("/jobs?q=' OR 1=1 --")["items"] == []


def test_a_header_input_is_taken_and_never_shown(stand: Stand) -> None:
    response = submit(stand, {"type": "guarded", "input": {"text": "x"}}, Authorization="Bearer S3CR3T")
    stand.turn()
    job_id = response.json["job_id"]

    shown = [stand.client.get(f"{API}/jobs/{job_id}{part}").text for part in ("", "/tasks", "/events")]

    assert response.json["input"] == {"text": "x", "token": "********"}
    assert not any("S3CR3T" in text for text in (response.text, *shown))


def test_a_missing_header_is_named(stand: Stand) -> None:
    response = submit(stand, {"type": "guarded", "input": {"text": "x"}})

    assert response.status_code == 422
    assert response.json["errors"][0]["pointer"] == "#/headers/Authorization"


def test_the_history_is_told_in_order(stand: Stand) -> None:
    job = stand.finished("fan")

    events = stand.get(f"/jobs/{job['job_id']}/events")["items"]

    assert [event["number"] for event in events] == sorted(event["number"] for event in events)
    assert (events[0]["kind"], events[-1]["kind"]) == ("job_submitted", "job_completed")


def test_the_tasks_tell_what_ran_and_which_one_spawned(stand: Stand) -> None:
    job = stand.post("fan", text="all")
    puppet = Puppet(stand)
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), items=[{"text": "a"}, {"text": "b"}])
    puppet.run_all()

    tasks = stand.get(f"/jobs/{job['job_id']}/tasks")["items"]

    assert [(task["stage"], task["index"], task["spawn"], task["state"]) for task in tasks] == [
        (0, 0, False, "COMPLETED"),
        (1, None, True, "COMPLETED"),
        (1, 0, False, "COMPLETED"),
        (1, 1, False, "COMPLETED"),
    ]
    assert [task["input"] for task in tasks] == [{"text": "all"}, {"text": "all"}, {"text": "a"}, {"text": "b"}]
    one = stand.get(f"/tasks/{tasks[2]['task_id']}")
    assert_shape(one, shapes.TaskWithAttempts)
    assert [(attempt["attempt"], attempt["outcome"]) for attempt in one["attempts"]] == [(1, "completed")]
    only = stand.get(f"/jobs/{job['job_id']}/tasks?stage=1&state=COMPLETED&limit=2")
    assert [task["index"] for task in only["items"]] == [None, 0]


def test_a_job_with_large_inputs_gets_smaller_pages_of_tasks_and_all_of_them(stand: Stand) -> None:
    job = stand.post("fan", text="x" * 60_000)
    puppet = Puppet(stand)
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), items=[{"text": str(number)} for number in range(200)])

    seen, cursor = [], ""
    while True:
        page = stand.get(f"/jobs/{job['job_id']}/tasks?stage=1&limit=500{cursor}")
        seen += [task["index"] for task in page["items"]]
        assert len(page["items"]) < 200
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert seen == [None, *range(200)]


def test_cancel_ends_a_job_for_good_and_may_be_said_twice(stand: Stand) -> None:
    job = stand.post()

    first = stand.client.post(f"{API}/jobs/{job['job_id']}/cancel")
    second = stand.client.post(f"{API}/jobs/{job['job_id']}/cancel")

    assert (first.status_code, first.json["state"]) == (200, "CANCELLED")
    assert (second.status_code, second.json["state"]) == (200, "CANCELLED")


def test_what_the_state_forbids_is_a_conflict(stand: Stand) -> None:
    ended, running = stand.finished()["job_id"], stand.post()["job_id"]

    for method, path in [
        ("POST", f"/jobs/{ended}/cancel"),
        ("POST", f"/jobs/{ended}/retry"),
        ("POST", f"/jobs/{running}/retry"),
        ("DELETE", f"/jobs/{running}"),
    ]:
        response = stand.client.open(API + path, method=method)
        assert (response.status_code, response.content_type) == (409, "application/problem+json")


def test_retry_asks_for_erased_secrets_and_takes_them(stand: Stand) -> None:
    job_id = submit(stand, {"type": "guarded", "input": {"text": "x"}}, Authorization="Bearer one").json["job_id"]
    stand.client.post(f"{API}/jobs/{job_id}/cancel")

    without = stand.client.post(f"{API}/jobs/{job_id}/retry")
    given = stand.client.post(f"{API}/jobs/{job_id}/retry", headers={"Authorization": "Bearer two"})

    assert (without.status_code, without.json["errors"][0]["pointer"]) == (422, "#/headers/Authorization")
    assert (given.status_code, given.json["state"]) == (200, "RUNNING")


def test_delete_removes_the_job_and_its_files_and_returns_its_last_view(stand: Stand) -> None:
    job = stand.finished()
    file = stand.leave(job["job_id"], "left.txt", b"x")

    gone = stand.client.delete(f"{API}/jobs/{job['job_id']}")

    assert (gone.status_code, gone.json["state"]) == (200, "COMPLETED")
    assert stand.client.get(f"{API}/jobs/{job['job_id']}").status_code == 404
    assert not file.exists()


def test_a_delete_that_was_cut_off_is_finished_by_asking_again(stand: Stand) -> None:
    left = stand.leave(str(uuid.uuid4()), "left.txt", b"x")
    job_id = left.parent.parent.name

    again = stand.client.delete(f"{API}/jobs/{job_id}")

    assert again.status_code == 404
    assert not left.exists()


@pytest.mark.parametrize("part", ["", "/tasks", "/events", "/log", "/artefacts", "/artefacts/x", "/artefacts.zip"])
def test_an_unknown_job_is_not_found(stand: Stand, part: str) -> None:
    response = stand.client.get(f"{API}/jobs/{uuid.uuid4()}{part}")

    assert (response.status_code, response.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize("path", ["/tasks/{}", "/tasks/{}/log", "/definitions/jobs/helo"])
def test_other_unknown_things_are_not_found(stand: Stand, path: str) -> None:
    assert stand.client.get(API + path.format(uuid.uuid4())).status_code == 404


def test_an_abbreviated_id_finds_jobs_and_tasks(stand: Stand) -> None:
    job = stand.post()
    task = stand.get(f"/jobs/{job['job_id']}/tasks")["items"][0]

    assert stand.get(f"/ids?prefix={job['job_id'][:13].upper()}") == {"jobs": [job["job_id"]], "tasks": []}
    assert stand.get(f"/ids?prefix={task['task_id']}") == {"jobs": [], "tasks": [task["task_id"]]}
    assert stand.get("/ids?prefix=ffffffff-ffff-ffff") == {"jobs": [], "tasks": []}


def test_the_catalogue_is_told_with_inputs_and_without_commands(stand: Stand) -> None:
    response = stand.client.get(f"{API}/definitions")

    jobs = {job["type"]: job for job in response.json["jobs"]}
    assert list(jobs) == ["hello", "fan", "guarded", "apart", "made"]
    assert jobs["guarded"]["input"][1] == {
        "name": "token",
        "description": None,
        "source": "http-header",
        "key": "Authorization",
        "type": None,
        "required": True,
        "secret": True,
    }
    assert jobs["fan"]["stages"][1]["spawn_task"] == "list_texts"
    assert "list-texts" not in response.text
    assert stand.get("/definitions/jobs/hello") == jobs["hello"]


def test_a_stage_that_waits_for_a_queue_without_workers_says_so_until_one_comes(stand: Stand) -> None:
    path = f"/jobs/{stand.post()['job_id']}"
    Puppet(stand, room={"gpu": 4})

    before = stand.client.get(API + path)
    assert (
        before.json["stages"][0]["waiting"] == "1 task waits for the queue 'default', and no worker takes tasks from it"
    )
    assert stand.get("/jobs")["items"] == [before.json]

    Puppet(stand, room={"default": 0})
    after = stand.client.get(API + path, headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    assert after.json["stages"][0]["waiting"] is None


def test_a_stage_that_waits_while_the_broker_is_away_does_not_say_that_workers_are_missing(stand: Stand) -> None:
    path = f"/jobs/{stand.post()['job_id']}"
    before = stand.get(path)["etag"]
    stand.broker.close(timeout=0)

    found = stand.get(path)

    waiting = found["stages"][0]["waiting"]
    assert waiting == "1 task waits for the queue 'default', and no worker can be heard without the broker"
    assert found["etag"] != before, "another sentence is another answer"


def test_a_spawn_task_waits_in_its_own_queue(stand: Stand) -> None:
    job = stand.post("apart")
    Puppet(stand, room={"default": 4})

    assert "1 task waits for the queue 'lists'" in stand.get(f"/jobs/{job['job_id']}")["stages"][0]["waiting"]


def test_a_task_is_found_by_its_place(stand: Stand) -> None:
    path = f"/jobs/{stand.finished('hello')['job_id']}/tasks"

    assert [task["index"] for task in stand.get(f"{path}?stage=0&index=0")["items"]] == [0]
    assert stand.get(f"{path}?index=1") == {"items": [], "next_cursor": None}
    assert stand.get(f"{path}?index=999999999") == {"items": [], "next_cursor": None}


def test_workers_and_queues_are_told(stand: Stand) -> None:
    job_id = stand.post()["job_id"]
    before = stand.get("/queues")["items"]
    puppet = Puppet(stand, name="one")
    assert stand.get("/queues")["items"] == before, "its worker has it"
    assert stand.get("/workers")["items"][0]["attempts"] == []
    puppet.take()

    assert before == [{"queue": "default", "ready": 1, "running": 0}]
    assert stand.get("/queues")["items"] == [{"queue": "default", "ready": 0, "running": 1}]
    (worker,) = stand.get("/workers")["items"]
    assert (worker["name"], worker["state"]) == ("one", "UP")
    (held,) = worker["attempts"]
    assert (held["job_id"], held["stage"], held["index"], held["spawn"], held["attempt"]) == (job_id, 0, 0, False, 1)
    assert held["task_id"] == stand.get(f"/jobs/{job_id}/tasks?stage=0")["items"][0]["task_id"]
