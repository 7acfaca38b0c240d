"""The verbs over REST: on jobs, stages and tasks, on chosen ones, in bulk; and who did what."""

from __future__ import annotations

import uuid

import pytest

from echelon.controller import shapes
from echelon.shared.messages import Outcome
from tests.api.live import counts, do, done, paths, spawned, states, task_of, work
from tests.api.shape import assert_shape
from tests.api.stand import API, Stand
from tests.engine.house import Puppet

VERBS = ["pause", "resume", "cancel", "kill", "retry", "skip"]
SHAPES: dict[str, object] = {
    "job": shapes.ChangedJob,
    "stage": shapes.ChangedStage,
    "task": shapes.ChangedTask,
}


def half_done(stand: Stand, puppet: Puppet) -> str:
    """Return a job with a task that runs, one that failed and two in line."""
    job_id = spawned(stand, puppet, 4)
    work(puppet, 2)
    held = puppet.take()
    puppet.finish(held if held[1].index == 1 else puppet.take(), Outcome.FAILED)
    return job_id


@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_with_the_thing_as_it_is_and_what_it_came_to(live: Stand, verb: str, kind: str) -> None:
    puppet = Puppet(live)
    job_id = half_done(live, puppet)
    path = paths(live, job_id)[kind]
    if verb == "resume":
        done(live, f"{path}/pause")

    answer = do(live, f"{path}/{verb}", X_Request_ID="who-asks")

    assert answer.status_code == 200, answer.text
    assert_shape(answer.json, SHAPES[kind])
    assert sum(answer.json["changed"].values()) > 0, answer.json
    found = live.client.get(API + path)
    assert answer.headers["ETag"] == found.headers["ETag"]
    assert answer.json["state"] == found.json["state"]
    last = [event for event in live.get(f"/jobs/{job_id}/events")["items"] if event["kind"] != "stage_started"]
    mine = [event for event in last if event["detail"].get("request_id") == "who-asks"]
    assert mine, "the history tells who did it"
    assert any(verb.removesuffix("e")[:4] in event["kind"] or verb == "retry" for event in mine), mine


def test_what_is_paused_says_by_whom_and_since_when(live: Stand) -> None:
    job_id = spawned(live, Puppet(live), 2)
    for kind, path in paths(live, job_id).items():
        paused = done(live, f"{path}/pause", X_Request_ID=f"r-{kind}")

        shown = live.get(path)
        assert (paused["paused"], shown["paused"], shown["paused_by"]) == (True, True, f"request r-{kind}")
        assert shown["paused_at"] is not None
        assert done(live, f"{path}/pause")["unchanged"][0]["reason"] == "it is paused already"
        resumed = done(live, f"{path}/resume")
        assert (resumed["paused"], resumed["paused_by"], resumed["paused_at"]) == (False, None, None)


def test_a_job_that_is_submitted_paused_begins_when_it_is_resumed(live: Stand) -> None:
    job = done(live, "/jobs", {"type": "open", "paused": True}, X_Request_ID="r-1")
    live.turn()

    assert (job["state"], job["paused"], job["paused_by"]) == ("PENDING", True, "request r-1")
    assert done(live, f"/jobs/{job['job_id']}/resume")["state"] == "RUNNING"


def test_stages_that_have_not_begun_are_listed_with_what_is_known_of_their_tasks(live: Stand) -> None:
    stages = done(live, "/jobs", {"type": "open", "paused": True})["stages"]
    parallel = live.post("blocking")["stages"]

    assert [(one["state"], one["source"], one["total"], one["counts"]["PENDING"]) for one in stages] == [
        ("PENDING", "fixed", 1, 1),
        ("PENDING", "open", 0, 0),
        ("PENDING", "fixed", 1, 1),
    ]
    assert [(one["order"], one["on_error"], one["paused"]) for one in parallel] == [
        (1, "block", False),
        (1, "fail_job", True),
    ]
    defined = live.get("/definitions/jobs/blocking")["stages"]
    assert [(one["order"], one["on_error"], one["paused"]) for one in defined] == [
        (1, "block", False),
        (1, "fail_job", True),
    ]
    assert live.get("/definitions/jobs/open")["stages"][1]["source"] == "open"


def test_tasks_are_chosen_by_their_places_and_by_their_state(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = half_done(live, puppet)

    skipped = done(live, f"/jobs/{job_id}/stages/0/skip?index=2-3,900")
    cancelled = done(live, f"/jobs/{job_id}/cancel?state=RUNNING")
    again = done(live, f"/jobs/{job_id}/stages/0/cancel?index=0-3")

    assert skipped["changed"] == counts(tasks=2)
    assert cancelled["changed"] == counts(tasks=1)
    assert states(live, job_id) == ["CANCELLED", "FAILED", "SKIPPED", "SKIPPED"]
    assert again["changed"] == counts()
    assert sorted((left["state"], left["count"]) for left in again["unchanged"]) == [
        ("CANCELLED", 1),
        ("FAILED", 1),
        ("SKIPPED", 2),
    ]


def test_retry_leaves_what_has_completed_unless_all_is_asked_for(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = spawned(live, puppet, 3)
    work(puppet, 10)
    puppet.finish(puppet.take(), Outcome.FAILED)
    puppet.run_all()
    failed = states(live, job_id)
    assert failed.count("FAILED") == 1

    some = done(live, f"/jobs/{job_id}/stages/0/retry")
    puppet.run_all()
    work(puppet, 10)
    puppet.run_all()
    everything = done(live, f"/jobs/{job_id}/stages/0/retry?only_failed=false")

    assert some["changed"]["tasks"] == failed.count("FAILED") + failed.count("CANCELLED")
    assert everything["changed"] == counts(stages=1, tasks=3)


def test_a_retry_that_finds_nothing_and_what_the_state_forbids_are_conflicts(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = str(live.post("open")["job_id"])
    work(puppet, 5)
    running = do(live, f"/jobs/{job_id}/retry")
    while puppet.granted:
        puppet.run_all()
        work(puppet, 5)
    ended = paths(live, job_id)

    answers = [running, *(do(live, f"{path}/{verb}") for path in ended.values() for verb in VERBS if verb != "resume")]

    assert live.get(ended["job"])["state"] == "COMPLETED"
    assert {(one.status_code, one.content_type) for one in answers} == {(409, "application/problem+json")}
    assert "only with `all` (only_failed=false)" in do(live, f"{ended['task']}/retry").json["detail"]


def test_what_is_not_there_is_not_found(live: Stand) -> None:
    job_id = live.post("open")["job_id"]
    nobody = uuid.uuid4()
    unknown = [f"/jobs/{nobody}", f"/jobs/{nobody}/stages/0", f"/jobs/{job_id}/stages/3", f"/tasks/{nobody}"]
    unreadable = [f"/jobs/{job_id}/stages/{place}" for place in ("-1", "9" * 4400, "x", "0.0")]

    for path in unknown + unreadable:
        for verb in VERBS:
            assert do(live, f"{path}/{verb}").status_code == 404, path
        assert live.client.get(API + path).status_code == 404, path


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("index=5-3", "#/query/index"),
        ("index=", "#/query/index"),
        ("index=1,,2", "#/query/index"),
        ("index=-1", "#/query/index"),
        ("index=999999999", "#/query/index"),
        ("state=BUSY", "#/query/state"),
        ("states=FAILED", "#/query/states"),
        ("index=1&index=2", "#/query/index"),
    ],
)
def test_a_choice_that_cannot_be_read_changes_nothing(live: Stand, query: str, pointer: str) -> None:
    job_id = live.post("open")["job_id"]

    answer = do(live, f"/jobs/{job_id}/cancel?{query}")

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)
    assert live.get(f"/jobs/{job_id}")["state"] == "RUNNING"


def test_a_choice_in_the_body_is_not_overlooked(live: Stand) -> None:
    job_id = live.post("open")["job_id"]

    answer = do(live, f"/jobs/{job_id}/cancel", {"index": "0"})

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "#/index")
    for verb in ("cancel", "retry"):
        (told,) = do(live, f"/jobs/{job_id}/{verb}", {"index": "0"}).json["errors"]
        assert told["detail"] == "belongs in the query: ?index=..."
    for verb in ("pause", "skip"):
        (told,) = do(live, f"/jobs/{job_id}/{verb}", {"only_failed": "false"}).json["errors"]
        assert told["detail"].startswith("unknown; known here: ")
    assert do(live, f"/jobs/{job_id}/cancel", {}).json["state"] == "CANCELLED"


def test_what_opens_an_ended_job_again_asks_for_erased_secrets(live: Stand) -> None:
    puppet = Puppet(live)
    job = done(live, "/jobs", {"type": "again"}, Authorization="one")
    puppet.heartbeat()
    puppet.finish(puppet.take(), Outcome.FAILED)
    assert live.get(f"/jobs/{job['job_id']}")["state"] == "FAILED"
    task_id = task_of(live, job["job_id"])["task_id"]

    for path in (f"/jobs/{job['job_id']}/stages/0/skip", f"/tasks/{task_id}/retry", f"/jobs/{job['job_id']}/retry"):
        refused = do(live, path)
        assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "#/headers/Authorization")
    assert live.get(f"/jobs/{job['job_id']}")["state"] == "FAILED"
    assert done(live, "/tasks/retry", [{"task_id": task_id}])["changed"] == counts()

    assert done(live, f"/tasks/{task_id}/retry", Authorization="two")["changed"] == counts(tasks=1)
    puppet.heartbeat()
    grant, _ = puppet.take()
    assert "token" in grant.sealed
    assert "two" not in live.client.get(f"{API}/jobs/{job['job_id']}/events").text


def failed_with_an_own_secret(live: Stand, puppet: Puppet) -> tuple[str, str]:
    """Return a failed job and its task, which has a secret of its own."""
    task = {"task_class": "guard", "input": {"token": "S3CR3T-own"}}
    composed = {"name": "mine", "stages": [{"name": "Guard", "tasks": [task]}]}
    job_id = str(done(live, "/jobs", composed)["job_id"])
    live.turn()
    puppet.heartbeat()
    puppet.finish(puppet.take(), Outcome.FAILED)
    return job_id, str(task_of(live, job_id)["task_id"])


def test_a_retry_of_a_task_that_has_lost_its_own_secret_is_refused(live: Stand) -> None:
    puppet = Puppet(live)
    job_id, task_id = failed_with_an_own_secret(live, puppet)
    for path in (f"/jobs/{job_id}/retry", f"/jobs/{job_id}/stages/0/retry", f"/tasks/{task_id}/retry"):
        refused = do(live, path)
        assert refused.status_code == 409
        assert "needs its own token" in refused.json["detail"] and "S3CR3T" not in refused.text
    assert live.get(f"/jobs/{job_id}")["state"] == "FAILED"
    assert task_of(live, job_id)["input"] == {"token": "********"}
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/events", f"/jobs/{job_id}/tasks", f"/tasks/{task_id}"):
        assert "S3CR3T" not in live.client.get(API + path).text


def test_tasks_are_retried_in_bulk_each_with_its_etag(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = spawned(live, puppet, 4)
    done(live, f"/jobs/{job_id}/stages/0/cancel?index=0-2")
    tasks = [task_of(live, job_id, index=index) for index in range(4)]
    wanted: list[object] = [
        {"task_id": tasks[0]["task_id"], "etag": tasks[0]["etag"]},
        {"task_id": tasks[1]["task_id"].upper()},
        {"task_id": tasks[2]["task_id"], "etag": "1"},
        {"task_id": tasks[3]["task_id"], "etag": f'"{tasks[3]["etag"]}"'},
        {"task_id": str(uuid.uuid4())},
    ]

    answer = done(live, "/tasks/retry", wanted)

    assert_shape(answer, shapes.RetriedTasks)
    assert answer["changed"]["tasks"] == 2
    assert [(one["task_id"], one["changed"], one["reason"], one["state"]) for one in answer["tasks"]] == [
        (tasks[0]["task_id"], True, None, "CANCELLED"),
        (tasks[1]["task_id"], True, None, "CANCELLED"),
        (tasks[2]["task_id"], False, "it has changed since it was read", "CANCELLED"),
        (tasks[3]["task_id"], False, "it has yet to run", "QUEUED"),
        (wanted[4]["task_id"], False, "there is no such task", None),  # type: ignore[index]
    ]
    assert {left["reason"]: left["count"] for left in answer["unchanged"]} == {
        "there is no such task": 1,
        "it has changed since it was read": 1,
        "it has yet to run": 1,
    }
    assert states(live, job_id) == ["QUEUED", "QUEUED", "CANCELLED", "QUEUED"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        (["x"], "#/0"),
        ([{"etag": "1"}], "#/0/task_id"),
        ([{"task_id": "abc"}], "#/0/task_id"),
        ([{"task_id": "00000000-0000-0000-0000-000000000000"}] * 2, "#/1/task_id"),
        ([{"task_id": "00000000-0000-0000-0000-000000000000", "Etag": "1"}], "#/0/Etag"),
    ],
)
def test_a_list_of_tasks_that_cannot_be_read_is_refused_with_its_place(live: Stand, body: object, pointer: str) -> None:
    answer = do(live, "/tasks/retry", body)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer), answer.text


@pytest.mark.parametrize("kind", ["job", "stage"])
def test_a_priority_is_set_if_nothing_has_changed_and_if_it_is_one(live: Stand, kind: str) -> None:
    job_id = half_done(live, Puppet(live))
    path = paths(live, job_id)[kind]
    etag = live.client.get(API + path).headers["ETag"]

    answer = live.client.post(f"{API}{path}/priority", json={"priority": 9}, headers={"If-Match": etag})

    assert answer.status_code == 200, answer.text
    assert_shape(answer.json, SHAPES[kind])
    stages = answer.json["stages"] if kind == "job" else [answer.json]
    assert {stage["priority"] for stage in stages if stage["state"] != "COMPLETED"} == {9}
    again = live.client.post(f"{API}{path}/priority", json={"priority": 1}, headers={"If-Match": etag})
    assert again.status_code == 412
    for wrong in (10, -1, "9", True, None, 9.5, [9]):
        assert live.client.post(f"{API}{path}/priority", json={"priority": wrong}).status_code == 422, wrong
    assert live.client.post(f"{API}{path}/priority", json={}).status_code == 422
