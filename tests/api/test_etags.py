"""Optimistic locking over REST: an old ETag changes nothing, and of two people at once one wins."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import CATALOGUE, do, done, paths, spawned, states, task_of, work
from tests.api.stand import API, Stand
from tests.engine.house import Puppet

VERBS = ["pause", "resume", "cancel", "kill", "retry", "skip"]


def etag_of(stand: Stand, path: str) -> str:
    """Return the ETag of a GET, quotes and all."""
    return str(stand.client.get(API + path).headers["ETag"])


@pytest.mark.parametrize("kind", ["job", "stage", "task"])
def test_what_has_changed_since_it_was_read_is_left_alone_by_every_verb(live: Stand, kind: str) -> None:
    job_id = spawned(live, Puppet(live), 2)
    path = paths(live, job_id)[kind]
    old = etag_of(live, path)
    done(live, f"{path}/pause")
    before = live.get(path), live.get(f"/jobs/{job_id}"), live.get(f"/jobs/{job_id}/events")

    answers = [do(live, f"{path}/{verb}", If_Match=old) for verb in VERBS]

    assert {(one.status_code, one.content_type) for one in answers} == {(412, "application/problem+json")}
    assert (live.get(path), live.get(f"/jobs/{job_id}"), live.get(f"/jobs/{job_id}/events")) == before


@pytest.mark.parametrize("kind", ["job", "stage", "task"])
def test_the_etag_of_an_answer_is_the_one_to_go_on_with(live: Stand, kind: str) -> None:
    path = paths(live, spawned(live, Puppet(live), 2))[kind]
    first = etag_of(live, path)

    paused = do(live, f"{path}/pause", If_Match=first)
    resumed = do(live, f"{path}/resume", If_Match=paused.headers["ETag"])
    by_field = do(live, f"{path}/pause", If_Match=resumed.json["etag"])

    assert [one.status_code for one in (paused, resumed, by_field)] == [200, 200, 200]
    assert etag_of(live, path) == by_field.headers["ETag"] == f'"{by_field.json["etag"]}"'


def test_an_etag_changes_with_all_that_shows(live: Stand) -> None:
    puppet = Puppet(live)
    job_id = spawned(live, puppet, 2)
    watched = paths(live, job_id)
    seen = {path: etag_of(live, path) for path in watched.values()}
    work(puppet, 1)
    granted, seen = seen, {path: etag_of(live, path) for path in watched.values()}
    puppet.finish(puppet.take())

    for path in watched.values():
        assert len({granted[path], seen[path], etag_of(live, path)}) == 3, path


def test_the_etag_of_a_job_that_waits_for_a_worker_is_as_good_as_any(live: Stand) -> None:
    Puppet(live, room={"default": 1})
    path = f"/jobs/{live.post('apart')['job_id']}"
    waiting = [etag_of(live, path), etag_of(live, f"{path}/stages/0")]
    listed = live.get("/jobs")["items"][0]["etag"]
    Puppet(live, "other", room={"elsewhere": 0})
    served = [etag_of(live, path), etag_of(live, f"{path}/stages/0")]

    assert all(one not in served for one in waiting), "what an answer holds has changed"
    assert f'"{listed}"' == waiting[0]
    held = do(live, f"{path}/stages/0/pause", If_Match=waiting[1])
    assert (held.status_code, do(live, f"{path}/pause", If_Match=waiting[0]).status_code) == (200, 412)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("*", 200),
        ('"nonsense"', 412),
        ('""', 400),
        ("", 400),
        (" ", 400),
        ('"1" "2"', 400),
        (", ".join(['"1"'] * 21), 400),
        ('"8", "9"', 412),
        ("W/{etag}", 412),
        ('"{number}.0"', 200),
        ('"99999999999999999999999999999", {etag}', 200),
        ('"-1"', 412),
        ('"²"', 412),
    ],
)
def test_if_match_is_read_as_http_has_it(live: Stand, header: str, status: int) -> None:
    path = f"/jobs/{live.post('open')['job_id']}"
    etag = etag_of(live, path)
    written = header.format(etag=etag, number=etag.strip('"'))

    answer = do(live, f"{path}/cancel", If_Match=written)

    assert answer.status_code == status, answer.text
    assert live.get(path)["state"] == ("CANCELLED" if status == 200 else "RUNNING")


def test_a_guarded_delete_removes_only_what_was_seen(live: Stand) -> None:
    path = f"/jobs/{live.post('open')['job_id']}"
    open_then = etag_of(live, path)
    done(live, f"{path}/cancel")

    refused = live.client.delete(API + path, headers={"If-Match": open_then})
    removed = live.client.delete(API + path, headers={"If-Match": etag_of(live, path)})

    assert (refused.status_code, removed.status_code) == (412, 200)
    assert live.client.get(API + path).status_code == 404


def test_tasks_are_added_only_to_the_stage_that_was_seen(live: Stand) -> None:
    stage = f"/jobs/{live.post('open')['job_id']}/stages/1"
    seen = etag_of(live, stage)

    added = do(live, f"{stage}/tasks", {"url": "a"}, If_Match=seen)
    late = do(live, f"{stage}/tasks", {"url": "b"}, If_Match=seen)
    again = do(live, f"{stage}/tasks", {"url": "c"}, If_Match=added.headers["ETag"])

    assert [one.status_code for one in (added, late, again)] == [201, 412, 201]
    assert live.get(stage)["total"] == 2


def test_what_is_not_there_is_not_found_whatever_its_etag(live: Stand) -> None:
    assert do(live, f"/jobs/{uuid.uuid4()}/pause", If_Match='"1"').status_code == 404


# --- at once


@pytest.fixture
def crowded(tmp_path: Path, store_url: str) -> Iterator[Stand]:
    """Give a stand on each kind of store."""
    made = Stand(tmp_path, catalogue=CATALOGUE, datastore=store_url)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["job", "stage", "task"])
def test_of_many_at_once_one_wins(crowded: Stand, kind: str) -> None:
    people = 8
    job_id = spawned(crowded, Puppet(crowded), 3)
    path = paths(crowded, job_id)[kind]
    before = len(crowded.get(f"/jobs/{job_id}/events")["items"])
    etag, start = etag_of(crowded, path), threading.Barrier(people)
    found: list[int] = []

    def ask(verb: str) -> None:
        start.wait()
        client = crowded.app.test_client()
        found.append(client.post(f"{API}{path}/{verb}", headers={"If-Match": etag}).status_code)

    threads = [threading.Thread(target=ask, args=(("cancel", "skip")[number % 2],)) for number in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == [200] + [412] * (people - 1)
    told = crowded.get(f"/jobs/{job_id}/events")["items"][before:]
    assert len({event["detail"]["request_id"] for event in told if "request_id" in event["detail"]}) == 1, told


def test_of_many_who_retry_the_same_list_each_task_is_retried_once(crowded: Stand) -> None:
    people, count = 4, 20
    job_id = spawned(crowded, Puppet(crowded), count)
    done(crowded, f"/jobs/{job_id}/stages/0/cancel?index=0-18")
    tasks = [task_of(crowded, job_id, index=index) for index in range(count - 1)]
    wanted = [{"task_id": task["task_id"], "etag": task["etag"]} for task in tasks]
    start = threading.Barrier(people)
    changed: list[int] = []

    def ask() -> None:
        start.wait()
        answer = crowded.app.test_client().post(f"{API}/tasks/retry", json=wanted)
        changed.append(answer.json["changed"]["tasks"])

    threads = [threading.Thread(target=ask) for _ in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(changed) == [0] * (people - 1) + [count - 1]
    assert states(crowded, job_id) == ["QUEUED"] * count
