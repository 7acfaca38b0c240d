"""Jobs that are composed in a request, over REST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import CATALOGUE, do, done, states
from tests.api.stand import Stand
from tests.engine.house import Puppet

COMMAND = {"exec_command": "echo", "exec_args": ["hello"]}


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Stand]:
    """Give a stand where requests may bring commands of their own."""
    made = Stand(tmp_path, catalogue=CATALOGUE, allow_inline_commands=True)
    yield made
    made.close()


def body(*tasks: object, **stage: object) -> dict[str, object]:
    """Return a job of one stage."""
    return {"name": "mine", "stages": [{"name": "One", "tasks": list(tasks), **stage}]}


def test_a_job_of_task_classes_is_composed_and_runs(live: Stand) -> None:
    puppet = Puppet(live)
    stages = [
        {"name": "Fetch", "order": 1, "tasks": [{"task_class": "fetch", "input": {"url": url}} for url in "ab"]},
        {"name": "Beside", "order": 1, "tasks": [{"task_class": "step", "paused": True}]},
        {"name": "Later", "tasks": "open", "task_class": "fetch"},
    ]

    response = do(live, "/jobs", {"name": "mine", "stages": stages}, Idempotency_Key="k")
    again = do(live, "/jobs", {"name": "mine", "stages": stages}, Idempotency_Key="k")
    other = do(live, "/jobs", {"name": "mine", "stages": stages[:1]}, Idempotency_Key="k")

    job_id = response.json["job_id"]
    assert [one.status_code for one in (response, again, other)] == [201, 200, 409]
    assert (response.json["type"], again.json["job_id"]) == ("mine", job_id)
    assert [(one["order"], one["source"], one["total"]) for one in response.json["stages"]] == [
        (1, "fixed", 2),
        (1, "fixed", 1),
        (2, "open", 0),
    ]
    live.turn()
    puppet.heartbeat()
    puppet.run_all()
    assert (states(live, job_id), states(live, job_id, 1)) == (["COMPLETED"] * 2, ["PENDING"])
    done(live, f"/jobs/{job_id}/stages/1/resume?index=0")
    live.turn()
    puppet.run_all()
    assert live.get(f"/jobs/{job_id}")["state"] == "COMPLETED"


def test_a_composed_job_can_wait_for_a_person(live: Stand) -> None:
    job = done(live, "/jobs", {**body({"task_class": "step"}), "paused": True})

    assert (job["state"], job["paused"]) == ("PENDING", True)


def test_own_commands_are_refused_with_the_remedy_unless_they_are_allowed(live: Stand, free: Stand) -> None:
    refused = do(live, "/jobs", body(COMMAND))

    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "#/stages/0/tasks/0/exec_command")
    assert "--allow-inline-commands" in refused.json["detail"]
    assert live.get("/jobs")["items"] == []


def test_own_commands_run_where_they_are_allowed(free: Stand) -> None:
    puppet = Puppet(free)
    job = done(free, "/jobs", body(COMMAND))
    free.turn()
    puppet.heartbeat()

    grant, _ = puppet.take()

    assert (grant.job_id, grant.recipe.exec_command) == (job["job_id"], "echo")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({}, "#/type"),
        ({"name": "mine"}, "#/stages"),
        ({"stages": [{"task_class": "step"}]}, "#/name"),
        ({"name": "mine", "stages": []}, "#/stages"),
        ({"name": "mine", "stages": {}}, "#/stages"),
        ({"name": "", "stages": [{"task_class": "step"}]}, "#/name"),
        ({"name": "mine", "stages": [{"task_class": "step"}], "type": "open"}, "#/type"),
        ({"name": "mine", "stages": [{"task_class": "step"}], "input": {"a": 1}}, "#/input"),
        ({"name": "mine", "stages": [{"task_class": "nothing"}]}, "#/stages/0/task_class"),
        ({"name": "mine", "stages": [{"task_class": "?"}]}, "#/stages/0/task_class"),
        ({"name": "mine", "stages": [{"task_class": "?", "tasks": "open"}]}, "#/stages/0/task_class"),
        ({"name": "mine", "stages": [{"task_class": "step", "spawn_task": "?"}]}, "#/stages/0/spawn_task"),
        (body({"task_class": "step"}, task_class="?"), "#/stages/0/task_class"),
        (body({"task_class": "?"}), "#/stages/0/tasks/0/task_class"),
        ({"name": "mine", "stages": [{"task_class": "?"}, {"tasks": [{}]}]}, "#/stages/0/task_class"),
        (body({"task_class": "fetch", "input": {"uri": "a"}}), "#/stages/0/tasks/0/input/uri"),
        (body({"task_class": "fetch"}, retries=3), "#/stages/0/retries"),
        ({"type": "open", "paused": "yes"}, "#/paused"),
        ({"type": "open", "paused": 1}, "#/paused"),
    ],
)
def test_a_mistake_is_told_with_its_place(live: Stand, wrong: object, pointer: str) -> None:
    answer = do(live, "/jobs", wrong)

    assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), answer.text
    assert pointer in [one["pointer"] for one in answer.json["errors"]], answer.json["errors"]
    assert live.get("/jobs")["items"] == []
