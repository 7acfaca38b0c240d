"""Why something does not move on, over REST."""

from __future__ import annotations

import uuid

import pytest

from echelon.controller import shapes
from echelon.shared.messages import Outcome
from tests.api.live import done, paths, spawned, task_of, work
from tests.api.shape import assert_shape
from tests.api.stand import API, Stand
from tests.engine.house import Puppet


def why(stand: Stand, path: str) -> dict[str, object]:
    """Return the reason that is given for a job, a stage or a task."""
    found: dict[str, object] = stand.get(f"{path}/why")
    assert_shape(found, shapes.Why)
    return found


@pytest.mark.parametrize("kind", ["job", "stage", "task"])
def test_what_is_paused_says_so_and_by_whom_and_since_when(live: Stand, kind: str) -> None:
    path = paths(live, spawned(live, Puppet(live), 2))[kind]
    done(live, f"{path}/pause", X_Request_ID="r-1")

    reason = why(live, path)

    assert reason["code"] == "PAUSED" and "by a client that gave no name (request r-1)" in str(reason["sentence"])
    assert (reason["at"], reason["by"]) == (live.get(path)["paused_at"], "request r-1")


def test_a_stage_that_waits_says_for_which_one(live: Stand) -> None:
    job_id = live.post("open")["job_id"]

    reason = why(live, f"/jobs/{job_id}/stages/2")

    assert (reason["code"], reason["stage"]) == ("WAITING_STAGE", 2)
    assert "stage 0 (First)" in str(reason["sentence"])
    assert why(live, f"/tasks/{task_of(live, job_id, 2)['task_id']}")["code"] == "WAITING_STAGE"


def test_a_limit_and_a_queue_without_a_worker_are_named(live: Stand) -> None:
    puppet = Puppet(live)
    limited = spawned(live, puppet, 3, "limited")
    work(puppet, 3)
    other = Puppet(live, "other", room={"default": 5})
    puppet.report(goodbye=True)
    other.take()
    apart = live.post("apart")["job_id"]

    nobody = why(live, f"/jobs/{apart}")

    full = why(live, f"/jobs/{limited}")

    assert (nobody["code"], nobody["queue"]) == ("NO_WORKER_FOR_QUEUE", "elsewhere")
    assert "'elsewhere'" in str(nobody["sentence"])
    assert (full["code"], full["running"], full["limit"]) == ("MAX_PARALLEL", 1, 1)
    assert "1/1" in str(full["sentence"])


def test_a_stage_that_waits_for_a_person_names_the_task(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = live.post("blocking")["job_id"]
    done(live, f"/jobs/{job_id}/stages/1/skip")
    puppet.heartbeat()
    puppet.finish(puppet.take(), Outcome.FAILED)
    task = task_of(live, job_id)

    reason = why(live, f"/jobs/{job_id}")

    assert (reason["code"], reason["task_id"], reason["index"]) == ("BLOCKED_BY_FAILURE", task["task_id"], 0)
    assert live.get(f"/jobs/{job_id}")["state"] == "RUNNING"
    done(live, f"/tasks/{task['task_id']}/skip")
    assert why(live, f"/jobs/{job_id}")["code"] == "ENDED"


def test_a_spawn_task_says_why_too(live: Stand) -> None:
    job_id = live.post("many")["job_id"]
    spawn = live.get(f"/jobs/{job_id}/tasks")["items"][0]

    assert spawn["spawn"] is True
    assert why(live, f"/tasks/{spawn['task_id']}")["code"] == "NO_WORKER_FOR_QUEUE"


def test_why_of_what_is_not_there_is_not_found(live: Stand) -> None:
    job_id, nobody = live.post("open")["job_id"], uuid.uuid4()

    for path in (f"/jobs/{nobody}", f"/jobs/{nobody}/stages/0", f"/jobs/{job_id}/stages/9", f"/tasks/{nobody}"):
        assert live.client.get(f"{API}{path}/why").status_code == 404


def test_a_client_that_names_its_user_is_named_so_wherever_it_has_paused_or_killed(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = live.post("many")["job_id"]
    puppet.take()
    done(live, f"/jobs/{job_id}/pause", X_Echelon_User="ada@laptop")
    born = live.client.post(
        f"{API}/jobs", json={"type": "many", "paused": True}, headers={"X-Echelon-User": "bob"}
    ).get_json()

    assert why(live, f"/jobs/{job_id}")["sentence"] == "The job is paused by ada@laptop."
    assert why(live, f"/jobs/{job_id}")["by"] == live.get(f"/jobs/{job_id}")["paused_by"] == "ada@laptop"
    assert why(live, f"/jobs/{born['job_id']}")["sentence"] == "The job is paused by bob."
    done(live, f"/jobs/{job_id}/kill", X_Echelon_User="ada@laptop")
    assert "killed by ada@laptop" in live.get(f"/jobs/{job_id}")["error"]


@pytest.mark.parametrize("name", ["", "x" * 101, "a\tb", "\u00e4", "a\u202eb"])
def test_a_name_that_is_none_is_refused(live: Stand, name: str) -> None:
    job_id = live.post("many")["job_id"]

    answer = live.client.post(f"{API}/jobs/{job_id}/pause", headers={"X-Echelon-User": name.encode().decode("latin-1")})

    assert answer.status_code == 422 and "#/headers/X-Echelon-User" in answer.text


def test_a_job_that_completed_although_tasks_failed_says_so(stand: Stand) -> None:
    puppet = Puppet(stand)
    job_id = stand.post("fan")["job_id"]
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), items=[{"text": "a"}, {"text": "b"}, {"text": "c"}])
    puppet.finish(puppet.take(), Outcome.FAILED)
    puppet.finish(puppet.take(), Outcome.FAILED)
    puppet.finish(puppet.take())

    assert why(stand, f"/jobs/{job_id}")["sentence"] == "The job is COMPLETED, although 2 tasks failed."
    assert why(stand, f"/jobs/{job_id}/stages/1")["sentence"] == (
        "Stage 1 (Say all) is COMPLETED, although 2 tasks failed: task 0 (a): it failed."
    )
    assert why(stand, f"/jobs/{job_id}/stages/0")["sentence"] == "Stage 0 (Prepare) is COMPLETED."
