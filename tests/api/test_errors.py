"""Why tasks of a job failed: errors of the same kind are one group, and only failed tasks are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.controller.catalogue.task_classes import InputDefinition, TaskClass
from echelon.controller.engine.base.labels import TaskLabels
from echelon.controller.engine.why.errors import normalise_error
from echelon.shared.messages import JsonValue, Outcome
from tests.api.stand import API, Stand
from tests.engine.house import Puppet


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("exit code 3: cannot open /data/lane1/HG1.fastq", "exit code 3: cannot open <path>"),
        ("exit code 127", "exit code 127"),
        ("signal 15", "signal 15"),
        ("exit code 1: line 17, column 4", "exit code 1: line <n>, column <n>"),
        ("HTTP 401 of https://host/a/b?page=12", "HTTP 401 of https://host/<path>?page=<n>"),
        ("job 6f1c1c5e-0f0b-4c57-9a3e-2a3d6d0e3c4b: 0x7ffe12", "job <id>: <id>"),
        ("2026-11-30T13:22:45Z out of memory after 1,024.5 MiB", "<time> out of memory after <n> MiB"),
        ("no such commit 9a2f1eacd6942836", "no such commit <id>"),
        ("the facade was defaced", "the facade was defaced"),
    ],
)
def test_what_differs_from_task_to_task_is_no_part_of_the_kind(error: str, kind: str) -> None:
    assert normalise_error(error) == kind


def test_the_values_of_an_item_are_no_part_of_the_kind() -> None:
    values = {"sample": "alice", "n": 3, "short": "x"}

    assert normalise_error("exit code 1: no box for alice, x", values) == "exit code 1: no box for {sample}, x"


def test_an_error_of_any_length_is_read_in_no_time() -> None:
    for text in ("/" * 100_000, "/a" * 50_000, "0" * 100_000, "a0" * 50_000, "1," * 50_000):
        assert len(normalise_error(text)) <= 100_000 * 2


def test_errors_of_the_same_kind_are_counted_as_one(live: Stand) -> None:
    job_id = live.post("listed_twice")["job_id"]
    puppet = Puppet(live)
    puppet.finish(puppet.take(), items=[{"url": f"http://host/{name}"} for name in ("ann", "bob", "eve", "joe")])
    errors = ["exit code 1: no {url} here", "exit code 2: gone", "exit code 1: no {url} here"]
    for error in errors:
        grant, task = held = puppet.take()
        puppet.finish(held, Outcome.FAILED, error=error.format(url=task.input["url"]))
        assert grant.job_id == job_id

    found = live.get(f"/jobs/{job_id}/errors")

    assert (found["failed_tasks"], found["grouped_tasks"]) == (3, 3)
    assert [(one["stage"], one["error"], one["count"]) for one in found["groups"]] == [
        (0, "exit code 1: no {url} here", 2),
        (0, "exit code 2: gone", 1),
    ]
    assert found["groups"][0]["example"] == "exit code 1: no http://host/ann here"
    assert [task["index"] for task in found["groups"][0]["tasks"]] == [0, 2]


def test_a_job_without_failures_has_no_errors_and_one_that_is_not_there_is_404(stand: Stand) -> None:
    job_id = stand.finished()["job_id"]

    assert stand.get(f"/jobs/{job_id}/errors") == {"failed_tasks": 0, "grouped_tasks": 0, "groups": []}
    assert stand.client.get(f"{API}/jobs/{job_id.replace('-', '')[:-1]}0/errors").status_code == 404


def test_a_task_is_named_by_the_values_of_its_item_everywhere(live: Stand) -> None:
    job_id = live.post("many")["job_id"]
    puppet = Puppet(live)
    puppet.finish(puppet.take(), items=[{"url": "http://host/ann", "size": 3}, {"url": "http://host/bob"}])
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), Outcome.FAILED, error="exit code 1: gone")

    job, errors = live.get(f"/jobs/{job_id}"), live.get(f"/jobs/{job_id}/errors")
    tasks = live.get(f"/jobs/{job_id}/tasks")["items"]

    assert [task["label"] for task in tasks] == [None, "url=http://host/ann size=3", "http://host/bob", None]
    assert job["stages"][0]["error"] == "task 1 (http://host/bob): exit code 1: gone"
    assert job["error"].endswith("task 1 (http://host/bob): exit code 1: gone")
    assert [task["label"] for task in errors["groups"][0]["tasks"]] == ["http://host/bob"]


def test_the_label_of_a_class_names_its_tasks_everywhere(labelled: Stand) -> None:
    job_id = labelled.post("labelled", run="r7", token="c4n4ry")["job_id"]
    puppet = Puppet(labelled)
    puppet.finish(puppet.take(), items=[{"sample": "ann"}, {"sample": "bob"}])
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), Outcome.FAILED, error="exit code 1: gone")

    job, errors = labelled.get(f"/jobs/{job_id}"), labelled.get(f"/jobs/{job_id}/errors")
    tasks = labelled.get(f"/jobs/{job_id}/tasks")["items"]

    assert [task["label"] for task in tasks] == ["list r7", "ann of r7, 0, ********", "bob of r7, 1, ********"]
    assert job["stages"][0]["error"] == "task 1 (bob of r7, 1, ********): exit code 1: gone"
    assert [task["label"] for task in errors["groups"][0]["tasks"]] == ["bob of r7, 1, ********"]
    assert labelled.get(f"/tasks/{tasks[1]['task_id']}")["label"] == "ann of r7, 0, ********"


def names_of(*, secret: str = "", label: str | None = None, **job: JsonValue) -> TaskLabels:
    task = TaskClass(
        task_class="t", label=label, input={name: InputDefinition(name) for name in ("token", "sample", "n")}
    )
    return TaskLabels(lambda name: task, lambda name: frozenset({secret}), lambda: job)


def test_a_secret_of_an_item_is_masked_in_its_name() -> None:
    names = names_of(secret="token")

    assert names.label_task("t", {"token": "sealed", "sample": "a\nb"}, 0) == "token=******** sample=a b"
    assert names.label_task("t", {"list": [1, 2]}, 0) == "[1,2]"
    assert names.label_task("t", {}, 0) is None
    assert names.label_task("t", {"text": "x" * 500}, 0) == "x" * 199 + "…"


def test_a_label_is_one_line_and_shows_no_secret() -> None:
    names = names_of(secret="token", label="{token}|{sample}|{{ n | int + 1 }}|{index}", n="4", sample="job's")

    assert names.label_task("t", {"token": "sealed", "sample": "a\x1b[31m\nb"}, 3) == "********|a [31m b|5|3"
    assert names.label_task("t", {"sample": "x" * 500, "token": "s"}, 3) == "********|" + "x" * 190 + "…"
    assert names.label_task("t", {"token": "sealed"}, 3) == "********|job's|5|3"


@pytest.mark.parametrize("values", [{}, {"token": "x"}])
def test_a_label_that_cannot_be_filled_in_gives_way_to_the_item(values: dict[str, JsonValue]) -> None:
    names = names_of(label="{sample} {{ 1 / (n | int) }}", sample="x", n="no number")

    assert names.label_task("t", values, 0) == (values.get("token") or None)


CATALOGUE = """
tasks:
  list: {exec_command: x, input: {run: {}}, label: "list {run}"}
  each:
    input: {sample: {}, run: {}, token: {secret: true}}
    exec_command: x
    label: "{sample} of {run}, {index}, {token}"
jobs:
  labelled:
    input: {run: {}, token: {}}
    stages: [{spawn_task: list, task_class: each}]
"""


@pytest.fixture
def labelled(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path, catalogue=CATALOGUE)
    yield made
    made.close()
