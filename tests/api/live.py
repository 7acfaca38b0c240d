"""Jobs for live control, and how tests speak to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.api.stand import API, Stand
from tests.engine.house import Puppet

CATALOGUE = """
    tasks:
      step:
        exec_command: "true"
      list:
        exec_command: list
      fetch:
        input: {url: {source: parameter}, size: {source: parameter, type: integer, default: 1}}
        exec_command: fetch
        exec_args: ["{url}"]
      guard:
        input: {token: {source: parameter, secret: true}}
        exec_command: guard
        exec_args: ["--token={token}"]
      elsewhere:
        exec_command: "true"
        queue: elsewhere
      flaky:
        exec_command: "false"
        retry: {limit: 2, delay: 1h}
      make:
        exec_command: "true"
        workdir: task
    jobs:
      many:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch}
        - {name: Report, task_class: step}
      listed_twice:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch, job_failed_on_error: false}
        - {name: Again, spawn_task: list, task_class: fetch}
      open:
        stages:
        - {name: First, task_class: step}
        - {name: More, task_class: fetch, tasks: open}
        - {name: Last, task_class: step}
      blocking:
        stages:
        - {name: Left, task_class: step, order: 1, on_error: block}
        - {name: Right, task_class: step, order: 1, paused: true}
      limited:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch, max_parallel: 1}
      again:
        input: {token: {source: http-header, key: Authorization}}
        stages:
        - {name: Guard, task_class: guard}
        - {name: Report, task_class: step}
      flaky:
        stages:
        - {name: Try, task_class: flaky}
      apart:
        stages:
        - {name: Elsewhere, task_class: elsewhere}
      made:
        stages:
        - {name: Make, task_class: make}
        - {name: Use, task_class: step}
"""

Json = dict[str, Any]


def do(stand: Stand, path: str, body: object = None, **headers: str) -> Any:
    """Return the answer to a POST; `If_Match` is the header If-Match."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    more = {} if body is None else {"json": body}
    return stand.client.post(API + path, headers=named, **more)


def done(stand: Stand, path: str, body: object = None, **headers: str) -> Json:
    """Return the JSON of a POST that is answered well."""
    response = do(stand, path, body, **headers)
    assert response.status_code in (200, 201), response.text
    found: Json = response.json
    return found


def spawned(stand: Stand, puppet: Puppet, count: int, job_type: str = "many") -> str:
    """Return a job whose first stage has so many tasks in line, none of them with the puppet."""
    puppet.room = {}
    puppet.heartbeat()
    job_id = str(stand.post(job_type)["job_id"])
    puppet.room = {"*": 1}
    puppet.heartbeat()
    puppet.room = {}
    puppet.finish(puppet.take(), items=[{"url": f"u{number}"} for number in range(count)])
    return job_id


def work(puppet: Puppet, room: int) -> None:
    """Let the puppet have room for so many tasks."""
    puppet.room = {"*": room}
    puppet.heartbeat()
    puppet.room = {}


def states(stand: Stand, job_id: str, stage: int = 0) -> list[str]:
    """Return the states of a stage's tasks, without its spawn task."""
    items = stand.get(f"/jobs/{job_id}/tasks?stage={stage}&limit=500")["items"]
    return [task["state"] for task in items if not task["spawn"]]


def task_of(stand: Stand, job_id: str, stage: int = 0, index: int = 0) -> Json:
    """Return one task."""
    (found,) = stand.get(f"/jobs/{job_id}/tasks?stage={stage}&index={index}")["items"]
    task: Json = found
    return task


def paths(stand: Stand, job_id: str) -> Mapping[str, str]:
    """Return where a job, its first stage and the first task of that are found."""
    task = task_of(stand, job_id)
    return {"job": f"/jobs/{job_id}", "stage": f"/jobs/{job_id}/stages/0", "task": f"/tasks/{task['task_id']}"}


def counts(jobs: int = 0, stages: int = 0, tasks: int = 0) -> dict[str, int]:
    """Return the counts of an answer."""
    return {"jobs": jobs, "stages": stages, "tasks": tasks}
