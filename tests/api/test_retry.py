"""Retries over REST: what is kept, what cannot run again, and what has to be done first."""

from __future__ import annotations

from echelon.shared.messages import Outcome
from tests.api.live import counts, do, done, spawned, states, task_of, work
from tests.api.stand import API, Stand
from tests.engine.house import Puppet


def test_of_fifty_tasks_the_one_that_failed_runs_again_and_the_forty_nine_are_kept(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = spawned(live, puppet, 50)
    work(puppet, 50)
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index == 17 else Outcome.COMPLETED)
    before = live.get(f"/jobs/{job_id}/tasks?stage=0&limit=500")["items"]
    assert live.get(f"/jobs/{job_id}")["state"] == "FAILED" and states(live, job_id).count("COMPLETED") == 49

    answer = done(live, f"/jobs/{job_id}/retry")
    work(puppet, 50)
    ran: list[tuple[int, int]] = []
    puppet.run_all(lambda _grant, task: ran.append((task.index, task.attempt)) or Outcome.COMPLETED)  # type: ignore[func-returns-value]

    after = live.get(f"/jobs/{job_id}/tasks?stage=0&limit=500")["items"]
    assert (answer["changed"]["tasks"], ran) == (2, [(17, 2)])
    assert [one for one in after if one["index"] != 17] == [one for one in before if one["index"] != 17]
    attempts = live.get(f"/tasks/{task_of(live, job_id, index=17)['task_id']}")["attempts"]
    assert [(one["attempt"], one["outcome"]) for one in attempts] == [(1, "failed"), (2, "completed")]
    work(puppet, 1)
    puppet.run_all()
    assert live.get(f"/jobs/{job_id}")["state"] == "COMPLETED"


def test_an_item_that_did_not_fit_is_refused_with_its_reason(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = str(live.post("many")["job_id"])
    work(puppet, 1)
    puppet.finish(puppet.take(), items=[{"url": "a"}, {"url": "b", "size": "large"}])
    live.turn()
    misfit = task_of(live, job_id, index=1)
    assert (misfit["state"], misfit["attempt"]) == ("FAILED", 0) and "size" in misfit["error"]

    single = do(live, f"/tasks/{misfit['task_id']}/retry")
    listed = done(live, "/tasks/retry", [{"task_id": misfit["task_id"]}])
    whole = done(live, f"/jobs/{job_id}/stages/0/retry")

    reason = "its item did not fit the task, so there is nothing to run: it can only be skipped"
    assert (single.status_code, single.json["detail"]) == (409, f"the task cannot be retried: {reason}")
    assert [(one["changed"], one["reason"]) for one in listed["tasks"]] == [(False, reason)]
    assert (whole["changed"]["tasks"], whole["unchanged"]) == (1, [{"reason": reason, "count": 1, "state": "FAILED"}])
    work(puppet, 2)
    puppet.run_all()
    again = do(live, f"/jobs/{job_id}/stages/0/retry")
    assert again.status_code == 409 and "the item of 1 task did not fit; skip it" in again.json["detail"]
    assert done(live, f"/jobs/{job_id}/stages/0/skip?state=FAILED")["changed"] == counts(tasks=1)
    assert live.get(f"/jobs/{job_id}")["state"] == "RUNNING"


def test_a_later_stage_is_a_conflict_that_says_what_to_do_while_an_earlier_one_has_failed(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = str(live.post("many")["job_id"])
    work(puppet, 1)
    puppet.finish(puppet.take(), Outcome.FAILED)
    later = f"/tasks/{task_of(live, job_id, 1)['task_id']}"
    before = live.get(f"/jobs/{job_id}")

    answers = [do(live, f"{path}/retry") for path in (f"/jobs/{job_id}/stages/1", later)]
    listed = done(live, "/tasks/retry", [{"task_id": later.rpartition("/")[2]}])

    said = "stage 0 (Fetch) is FAILED and comes before it: retry or skip that first"
    assert {(one.status_code, one.json["detail"].partition(": ")[2]) for one in answers} == {(409, said)}
    assert (listed["changed"], listed["tasks"][0]["changed"]) == (counts(), False)
    assert listed["tasks"][0]["reason"].endswith(said)
    assert live.get(f"/jobs/{job_id}") == before


def test_two_stages_side_by_side_that_failed_are_skipped_one_after_the_other(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = done(live, "/jobs", {"name": "pair", "stages": [
        {"name": "Left", "order": 1, "tasks": [{"task_class": "step"}]},
        {"name": "Right", "order": 1, "tasks": [{"task_class": "step"}]},
        {"name": "Behind", "order": 2, "tasks": [{"task_class": "step"}]},
    ]})["job_id"]  # fmt: skip
    live.turn()
    work(puppet, 2)
    for held in [puppet.take(), puppet.take()]:
        puppet.finish(held, Outcome.FAILED)
    assert [one["state"] for one in live.get(f"/jobs/{job_id}")["stages"]] == ["FAILED", "FAILED", "CANCELLED"]

    first = done(live, f"/tasks/{task_of(live, job_id, 0)['task_id']}/skip")
    between = live.get(f"/jobs/{job_id}")["state"]
    second = done(live, f"/tasks/{task_of(live, job_id, 1)['task_id']}/skip")

    assert (first["changed"], second["changed"]) == (counts(tasks=1), counts(tasks=1))
    assert (between, live.get(f"/jobs/{job_id}")["state"]) == ("FAILED", "RUNNING")
    work(puppet, 1)
    puppet.run_all()
    assert live.get(f"/jobs/{job_id}")["state"] == "COMPLETED"


def test_a_list_with_a_job_that_cannot_open_again_is_answered_and_the_others_run(live: Stand) -> None:
    puppet = Puppet(live)
    plain = str(live.post("open")["job_id"])
    work(puppet, 1)
    puppet.finish(puppet.take(), Outcome.FAILED)
    tasks = [{"task_class": "guard", "input": {"token": f"t{number}"}} for number in range(3)]
    guarded = done(live, "/jobs", {"name": "guarded", "stages": [{"name": "Guard", "tasks": tasks}]})["job_id"]
    live.turn()
    work(puppet, 1)
    puppet.finish(puppet.take(), Outcome.FAILED)
    stuck, other = task_of(live, guarded)["task_id"], task_of(live, plain)["task_id"]

    answer = done(live, "/tasks/retry", [{"task_id": stuck}, {"task_id": other}])

    assert [one["changed"] for one in answer["tasks"]] == [False, True]
    reason = answer["tasks"][0]["reason"]
    assert "needs its own token" in reason and "submit the job again" in reason
    assert [live.get(f"/jobs/{one}")["state"] for one in (guarded, plain)] == ["FAILED", "RUNNING"]


def test_a_list_retries_the_stages_behind_its_tasks_on_request_and_else_tells_of_them(live: Stand) -> None:
    def make_job(puppet: Puppet) -> str:
        job_id = str(live.post("listed_twice")["job_id"])
        live.turn()
        puppet.finish(puppet.take(), items=[{"url": "a"}])
        puppet.finish(puppet.take(), Outcome.FAILED)
        puppet.finish(puppet.take(), items=[{"url": "b"}])
        puppet.run_all()
        assert live.get(f"/jobs/{job_id}")["state"] == "COMPLETED"
        return job_id

    puppet = Puppet(live, room={"*": 9})
    jobs = [make_job(puppet), make_job(puppet), make_job(puppet)]
    failed = [{"task_id": task_of(live, job_id, index=0)["task_id"]} for job_id in jobs]

    plain = done(live, "/tasks/retry", failed[:2])
    behind = done(live, "/tasks/retry?downstream=true", failed[2:])

    assert plain["hint"] == "2 later stages ran before this and were not run again"
    assert plain["changed"] == counts(tasks=2)
    assert (behind["hint"], behind["changed"]) == (None, counts(tasks=1, stages=1))
    runs = [[stage["run"] for stage in live.get(f"/jobs/{job_id}")["stages"]] for job_id in jobs]
    assert runs == [[1, 1], [1, 1], [1, 2]]
    assert live.client.post(f"{API}/tasks/retry?only_failed=false", json=failed).status_code == 422


def test_stages_behind_a_retry_begin_their_next_run_and_the_tasks_of_the_last_one_stay_readable(live: Stand) -> None:
    puppet = Puppet(live, room={"*": 9})
    job_id = str(live.post("listed_twice")["job_id"])
    live.turn()
    puppet.finish(puppet.take(), items=[{"url": "a"}])
    puppet.finish(puppet.take(), Outcome.FAILED)
    puppet.finish(puppet.take(), items=[{"url": "b"}])
    puppet.run_all()
    assert live.get(f"/jobs/{job_id}")["state"] == "COMPLETED"
    left = task_of(live, job_id, stage=1)

    plain = done(live, f"/jobs/{job_id}/stages/0/retry?index=0")
    behind = done(live, f"/jobs/{job_id}/stages/0/retry?downstream=true")
    job = live.get(f"/jobs/{job_id}")

    assert plain["hint"] == "1 later stage ran before this and was not run again"
    assert (behind["hint"], [stage["run"] for stage in job["stages"]]) == (None, [1, 2])
    assert set(job["stages"][1]["counts"].values()) == {0}
    assert states(live, job_id, 1) == []
    (read,) = live.get(f"/jobs/{job_id}/tasks?stage=1&run=1")["items"]
    assert (read["task_id"], read["run"], left["run"]) == (left["task_id"], 1, 1)
    refused = do(live, f"/tasks/{left['task_id']}/retry?only_failed=false")
    assert refused.status_code == 409 and "belongs to an earlier run of its stage" in refused.json["detail"]
    assert live.client.get(f"{API}/jobs/{job_id}/tasks?run=0").status_code == 422
