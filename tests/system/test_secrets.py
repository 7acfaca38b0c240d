"""A canary secret on each way in, through real processes: only its task ever sees it, however the job ends."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from echelon.controller.client import Client
from echelon.shared.volume import Volume
from tests.contract.canary import dump, files_with, opened
from tests.system.cluster import Cluster, Shape
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: The tasks leave a digest of what they were given. `end` says how they end.
CATALOGUE = r"""
tasks:
  use: &use
    input: &used {token: {source: parameter, secret: true, type: string}, end: {source: parameter}}
    env: {TOKEN: "{token}"}
    exec_command: bash
    exec_args:
    - -c
    - |
      echo "say $TOKEN"
      echo "hear $TOKEN" >&2
      printf %s "$TOKEN" | sha256sum > "digest-$ECHELON_INDEX"
      case $1 in
        COMPLETED) exit 0 ;;
        FAILED) echo "no $TOKEN" >&2; exit 7 ;;
      esac
      sleep 1000
    - bash
    - "{end}"
    grace: 1s
  use_environment:
    <<: *use
    input: {token: {source: environment, key: CANARY, secret: true}, end: {source: parameter}}
  list:
    <<: *use
    exec_args:
    - -c
    - |
      printf '[{"token": "%s"}, {"token": "%s"}]' "$TOKEN" "$TOKEN" > spawn.json
  misfit:
    <<: *use
    exec_args:
    - -c
    - |
      printf '[{"token": ["%s"]}, {"token": {"%s": 1}}]' "$TOKEN" "$TOKEN" > "$ECHELON_SPAWN_FILE"
  broken:
    input: *used
    exec_command: "/nowhere/{token}"
  pass: {exec_command: "true"}
jobs:
  parameter:
    input: &given {token: {source: parameter, secret: true}, end: {source: parameter}}
    stages: [{name: Use, task_class: use}]
  header:
    input: {token: {source: http-header, key: X-Token}, end: {source: parameter}}
    stages: [{name: Use, task_class: use}]
  environment:
    input: {end: {source: parameter}}
    stages: [{name: Use, task_class: use_environment}]
  spawned:
    input: *given
    stages: [{name: Use, spawn_task: list, task_class: use}]
  added:
    input: {end: {source: parameter}}
    stages: [{name: Pass, task_class: pass}, {name: Use, task_class: use, tasks: open}]
  broken:
    input: *given
    stages: [{name: Use, task_class: broken}]
  misfit:
    input: *given
    stages: [{name: Use, spawn_task: misfit, task_class: use}]
"""
WAYS = ("parameter", "header", "environment", "spawned", "added", "composed")
ENDS = ("COMPLETED", "FAILED", "CANCELLED")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    controllers = 1 if request.param == "sqlite" else 2
    shape = Shape(controllers=controllers, workers=1, slots=40, datastore=request.param)
    with Cluster(tmp_path_factory.mktemp(f"secrets-{request.param}"), CATALOGUE, shape) as one:
        yield one


@dataclass
class Theft:
    """All places that are not the task's own, searched for a canary."""

    cluster: Cluster
    canary: str = field(default_factory=lambda: f"S3CR3T-{uuid.uuid4().hex}")

    def found(self) -> list[str]:
        """Return where the canary stands in clear: files of store, broker, engine and volume, rows of the store."""
        homes = [self.cluster.rabbit.home, self.cluster.folder]
        if self.cluster.postgresql is not None:
            homes.append(self.cluster.postgresql.home)
        files = [str(path) for home in homes for path in files_with(home, self.canary.encode())]
        return files + (["the store"] if self.canary in dump(self.cluster.database) else [])

    def opened(self) -> list[str]:
        """Return what the volume's key opens in the store."""
        return opened(Volume.open(self.cluster.volume), dump(self.cluster.database))

    def told(self, client: Client, job_id: str) -> str:
        """Return all that the interface tells of a job."""
        tasks = list(client.list_tasks(job_id))
        said: list[object] = [
            client.get_job(job_id),
            *client.list_events(job_id),
            *tasks,
            *client.list_artefacts(job_id),
        ]
        said += [client.get_task(task["task_id"]) for task in tasks]
        said += [
            "".join(client.read_log(job_id)),
            client.explain_job(job_id),
            *client.list_workers(),
            *client.list_queues(),
        ]
        said += [b"".join(client.read_artefact(job_id, one["path"])).decode() for one in client.list_artefacts(job_id)]
        return json.dumps(said)


def submit(client: Client, way: str, canary: str, end: str) -> str:
    """Return a job that a canary has come into on one of the ways."""
    if way == "header":
        return client.submit_job(way, input={"end": end}, headers={"X-Token": canary})["job_id"]
    if way in ("environment", "added"):
        job_id = client.submit_job(way, input={"end": end}, paused=way == "added")["job_id"]
        if way == "added":
            client.add_tasks(job_id, 1, {"token": canary, "end": end})
            client.resume_job(job_id)
        return job_id
    if way == "composed":
        task = {"task_class": "use", "input": {"token": canary, "end": end}}
        return client.compose_job("mine", [{"name": "Use", "tasks": [task]}], idempotency_key=uuid.uuid4().hex)[
            "job_id"
        ]
    return client.submit_job(way, input={"token": canary, "end": end}, idempotency_key=uuid.uuid4().hex)["job_id"]


def begun(cluster: Cluster, job_id: str, canary: str) -> bool:
    """Tell whether the job's first task has been given just the canary."""
    digest = hashlib.sha256(canary.encode()).hexdigest()
    path = Path(cluster.volume, "jobs", job_id, "work", "digest-0")
    return path.exists() and path.read_text().startswith(digest)


def test_nobody_but_its_task_sees_a_secret_on_whatever_way_it_came_and_however_its_job_ends(cluster: Cluster) -> None:
    theft, client = Theft(cluster), cluster.client()
    # The canary of the environment is the worker's own: it is in the memory of that process and nowhere else.
    cluster.workers[0].kill()
    cluster.workers[0].start(CANARY=theft.canary)
    jobs = {(way, end): submit(client, way, theft.canary, end) for way in WAYS for end in ENDS}
    for job_id in jobs.values():
        until(lambda job_id=job_id: begun(cluster, job_id, theft.canary), f"job {job_id} has its secret")
    while_open = theft.found(), theft.opened()
    for (_, end), job_id in jobs.items():
        if end == "CANCELLED":
            client.cancel_job(job_id)
        until(lambda job_id=job_id: client.get_job(job_id)["ended_at"] is not None, f"job {job_id} ends")

    assert {client.get_job(job_id)["state"] == end for (_, end), job_id in jobs.items()} == {True}
    assert while_open[0] == []
    assert theft.canary in while_open[1], "a thief who looks in time, and has the key, is seen by this test"
    assert (theft.found(), theft.opened()) == ([], [])
    assert [job_id for job_id in jobs.values() if theft.canary in theft.told(client, job_id)] == []
    assert "say ***" in theft.told(client, jobs["added", "COMPLETED"])
    for job_id in jobs.values():
        client.delete_job(job_id)
    assert (theft.found(), theft.opened()) == ([], [])


@pytest.mark.parametrize("way", ["broken", "misfit"])
def test_what_goes_wrong_is_told_without_the_secret(cluster: Cluster, way: str) -> None:
    theft, client = Theft(cluster), cluster.client()
    job_id = submit(client, way, theft.canary, "COMPLETED")
    until(lambda: client.get_job(job_id)["ended_at"] is not None, f"job {job_id} ends")

    errors = [task["error"] for task in client.list_tasks(job_id) if task["error"]]
    assert errors and client.get_job(job_id)["state"] == "FAILED"
    assert theft.canary not in theft.told(client, job_id)
    assert (theft.found(), theft.opened()) == ([], [])
