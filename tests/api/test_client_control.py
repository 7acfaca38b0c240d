"""The client's live control and the whole engine behind it: a real process, a real worker."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echelon.controller.client import Client, Rejected
from echelon.controller.client.control import Verb
from echelon.shared.errors import Conflict, NotFound, PreconditionFailed
from tests.system.process import Standalone, until

#: Without braces: those would be placeholders.
ADD = """\
import json, os, urllib.request as web
url = os.environ["URL"] + "/api/v1/jobs/" + os.environ["ECHELON_JOB_ID"] + "/stages/1/tasks"
body = json.dumps([dict(name="x"), dict(name="y")]).encode()
web.urlopen(web.Request(url, body, dict([("Content-Type", "application/json")])), timeout=30).close()
"""

CATALOGUE = f"""
tasks:
  look:
    input: {{url: {{source: parameter}}}}
    exec_command: {sys.executable}
    exec_args: [-c, {json.dumps(ADD)}]
    env: {{URL: "{{url}}"}}
  greet:
    input: {{name: {{source: parameter}}}}
    exec_command: echo
    exec_args: ["hello {{name}}"]
  wait:
    exec_command: sh
    exec_args: [-c, 'echo $$ > pid.new; mv pid.new pid; while :; do sleep 0.05; done']
  fail:
    exec_command: sh
    exec_args: [-c, '[ -e well ]']
  whisper:
    input: {{token: {{source: parameter, secret: true}}}}
    env: {{TOKEN: "{{token}}"}}
    exec_command: sh
    exec_args: [-c, 'test "$TOKEN" = right']
jobs:
  grow:
    input: {{url: {{source: parameter}}}}
    stages:
    - {{name: Look, task_class: look}}
    - {{name: Greet, task_class: greet, tasks: open}}
  wait: {{stages: [{{name: Wait, task_class: wait}}]}}
  fail: {{stages: [{{name: Fail, task_class: fail, on_error: block}}]}}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    with Standalone(tmp_path_factory.mktemp("engine"), CATALOGUE, "--allow-inline-commands") as made:
        yield made


@pytest.fixture
def client(engine: Standalone) -> Iterator[Client]:
    with Client(engine.url) as made:
        yield made


def running(client: Client, job_type: str = "wait") -> tuple[str, str]:
    """Return a job and its one task, which runs."""
    job_id = client.submit_job(job_type)["job_id"]
    until(lambda: next(client.list_tasks(job_id))["state"] == "RUNNING", "the task runs")
    return job_id, next(client.list_tasks(job_id))["task_id"]


def test_a_task_that_runs_adds_tasks_to_a_later_stage_of_its_own_job(client: Client, engine: Standalone) -> None:
    job = client.submit_job("grow", input={"url": engine.url}, wait=60)

    assert job["state"] == "COMPLETED", "".join(client.read_log(job["job_id"]))
    assert job["stages"][1]["counts"]["COMPLETED"] == 2
    assert "".join(client.read_log(job["job_id"])).count("hello ") == 2


@pytest.mark.parametrize(("verb", "state"), [("cancel", "CANCELLED"), ("skip", "COMPLETED"), ("kill", "FAILED")])
def test_what_runs_is_ended(
    client: Client, engine: Standalone, record_property: Callable[[str, object], None], verb: Verb, state: str
) -> None:
    job_id, task_id = running(client)
    pid = engine.volume / "jobs" / job_id / "work" / "pid"
    until(pid.exists, "its process runs")
    process, began = Path("/proc") / pid.read_text().strip(), time.monotonic()
    assert process.exists()

    if verb == "cancel":
        changed = client.cancel_job(job_id)["changed"]["tasks"]
    elif verb == "skip":
        changed = client.change_stage("skip", job_id, 0)["changed"]["tasks"]
    else:
        changed = client.change_task("kill", task_id)["changed"]["tasks"]

    until(lambda: not process.exists(), "its process has ended")
    record_property("shown", f"{verb}: the process was gone after {time.monotonic() - began:.2f} s")
    assert changed == 1
    assert client.get_job(job_id, wait=30)["state"] == state


def test_a_job_is_held_looked_at_and_let_go_on(client: Client) -> None:
    job = client.submit_job("fail", paused=True)
    job_id = job["job_id"]

    held = client.explain_job(job_id)
    client.resume_job(job_id, etag=job["etag"])
    with pytest.raises(PreconditionFailed):
        client.cancel_job(job_id, etag=job["etag"])
    until(lambda: client.explain_job(job_id)["code"] == "BLOCKED_BY_FAILURE", "the job waits for a person")
    task = next(client.list_tasks(job_id))

    assert (job["state"], held["code"]) == ("PENDING", "PAUSED")
    assert (client.explain_job(job_id, 0)["task_id"], client.explain_task(task["task_id"])["code"]) == (
        task["task_id"],
        "ENDED",
    )
    assert client.get_stage(job_id, 0)["on_error"] == "block"
    retried = client.retry_tasks([(task["task_id"], task["etag"])])
    assert retried["changed"]["tasks"] == 1
    assert client.retry_tasks([(task["task_id"], task["etag"])])["unchanged"][0]["count"] == 1
    until(lambda: client.explain_job(job_id)["code"] == "BLOCKED_BY_FAILURE", "it fails again")
    assert client.change_job("skip", job_id, state="failed")["changed"]["tasks"] == 1
    assert client.get_job(job_id, wait=30)["state"] == "COMPLETED"


def test_a_job_is_composed_and_grows(client: Client) -> None:
    stages = [
        {"name": "Say", "tasks": [{"exec_command": "echo", "exec_args": ["own"]}]},
        {"name": "Greet", "task_class": "greet", "tasks": [{"task_class": "greet", "input": {"name": "a"}}]},
    ]
    job_id = client.compose_job("mine", stages, paused=True)["job_id"]

    added = client.add_tasks(job_id, 1, {"name": "b"})
    more = client.add_tasks(job_id, 1, [{"name": "c"}, {"name": "d"}], paused=True)
    client.change_stage("skip", job_id, 1, index="2-3")
    client.resume_job(job_id)
    job = client.get_job(job_id, wait=30)

    assert (added["first_index"], more["first_index"], len(more["task_ids"])) == (1, 2, 2)
    assert (job["type"], job["state"]) == ("mine", "COMPLETED")
    assert (job["stages"][1]["counts"]["COMPLETED"], job["stages"][1]["counts"]["SKIPPED"]) == (2, 2)
    with pytest.raises(Rejected) as refused:
        client.compose_job("mine", [{"tasks": [{"task_class": "gret"}]}])
    assert refused.value.mistakes[0].pointer == "#/stages/0/tasks/0/task_class"


def test_what_cannot_be_is_told_as_an_exception(client: Client) -> None:
    job_id, _ = running(client)

    with pytest.raises(NotFound):
        client.change_stage("pause", job_id, 7)
    with pytest.raises(Conflict):
        client.add_tasks(job_id, 0, {})
    with pytest.raises(Conflict):
        client.retry_job(job_id)
    with pytest.raises(Rejected):
        client.change_job("pause", job_id, index="3-1")
    assert client.kill_job(job_id)["state"] == "FAILED"
    assert client.retry_job(job_id)["state"] == "RUNNING"
    assert client.pause_job(job_id)["paused"] is True
    assert client.skip_job(job_id)["state"] == "SKIPPED"


def test_an_unknown_verb_is_told_the_verbs() -> None:
    with Client("http://127.0.0.1:9") as nowhere:
        for change in (nowhere.change_job, nowhere.change_task):
            with pytest.raises(Rejected, match="no verb 'stop', only pause, resume, cancel, kill, retry, skip"):
                change("stop", "0" * 36)  # type: ignore[arg-type]
