"""Whatever a composed job or a list of added tasks holds: it is taken or refused with its places, and never a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.api.live import CATALOGUE
from tests.api.stand import API, Stand

#: More than in daily runs: set ECHELON_FUZZ.
EXAMPLES = int(os.environ.get("ECHELON_FUZZ", "25")) * 4
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

#: Names that are classes, names that could be taken for one of our own, and what no name can be.
NAMES = some.sampled_from(
    ["step", "fetch", "list", "guard", "elsewhere", "nothing", "?", "", " ", ".", "open", "mine", "inline-0", "a/b",
     "~0~1", "{url}", "Step", "\x00", "\ud800", "é" * 70, "x" * 300, "tasks", "__proto__"]
)  # fmt: skip
NUMBERS = some.sampled_from([0, 1, -1, 2**31, 2**63, 2**70, 1.5, -0.0, 1e308])
ODD: Any = some.recursive(
    some.none() | some.booleans() | NUMBERS | NAMES | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def mostly(usual: Any) -> Any:
    """Return what is usual, and now and then anything."""
    return some.one_of(usual, usual, usual, usual, usual, ODD)


def record(**fields: Any) -> Any:
    """Return objects with some of these fields, and now and then one that nobody knows."""
    return some.fixed_dictionaries({}, optional={**fields, "unknown": ODD}) | some.fixed_dictionaries(
        {}, optional=fields
    )


INPUT = mostly(some.dictionaries(some.sampled_from(["url", "size", "token", "?", ""]), ODD, max_size=3))
LENGTH = mostly(some.sampled_from(["1s", "0s", "10m", "1d", "-1s", "1", "", 5, 0]))
EXECUTABLE = mostly(some.sampled_from(["true", "sh", "", "{url}", "{nobody}", "{", "\x00", "\ud800"]))
ARGUMENT = mostly(some.sampled_from(["a", "{index}", "{{ 1 + 1 }}", "{{", "{x}", ""]))
COMMAND = {
    "exec_args": mostly(some.lists(ARGUMENT, max_size=3)),
    "env": mostly(some.dictionaries(NAMES, ODD, max_size=2)),
    "queue": mostly(NAMES),
    "timeout": LENGTH,
    "grace": LENGTH,
    "retry": mostly(record(limit=mostly(NUMBERS), delay=LENGTH, factor=mostly(NUMBERS), max_delay=LENGTH)),
    "workdir": mostly(some.sampled_from(["job", "task"])),
    "paused": mostly(some.booleans()),
}
TASK = mostly(
    some.fixed_dictionaries(
        {"task_class": mostly(NAMES)}, optional={"input": INPUT, "paused": mostly(some.booleans()), "unknown": ODD}
    )
    | some.fixed_dictionaries({"exec_command": EXECUTABLE}, optional=COMMAND)
    | record(task_class=NAMES, input=INPUT, exec_command=EXECUTABLE, **COMMAND)
)
STAGE = mostly(
    record(
        name=mostly(NAMES),
        order=mostly(NUMBERS),
        tasks=mostly(some.lists(TASK, max_size=4) | some.just("open")),
        task_class=mostly(NAMES),
        spawn_task=mostly(NAMES),
        on_error=mostly(some.sampled_from(["block", "fail", "ignore", "job_failed"])),
        job_failed_on_error=mostly(some.booleans()),
        fail_fast=mostly(some.booleans()),
        max_parallel=mostly(NUMBERS),
        paused=mostly(some.booleans()),
    )
)
BODY = some.fixed_dictionaries(
    {"name": mostly(NAMES), "stages": mostly(some.lists(STAGE, min_size=1, max_size=4))},
    optional={"paused": mostly(some.booleans())},
)


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(Path(tmp_path_factory.mktemp("stand")), catalogue=CATALOGUE, allow_inline_commands=True)
    yield made
    made.close()


def shown(strategy: Any) -> Any:
    """Return a strategy as functions are shown: its own picture would have 80 kB."""
    return some.deferred(lambda: strategy)


def sent(stand: Stand, path: str, body: object) -> Any:
    # Lone surrogates go out as the escapes that JSON has for them.
    return stand.client.post(API + path, data=json.dumps(body), content_type="application/json")


def assert_taken_or_refused(answer: Any, taken: int) -> None:
    if answer.status_code == taken:
        return
    assert answer.status_code in (400, 409, 422), (answer.status_code, answer.text)
    assert answer.content_type == "application/problem+json"
    if answer.status_code == 422:
        assert all(one["pointer"].startswith("#") and one["detail"] for one in answer.json["errors"]), answer.text
        assert answer.json["errors"]


@fuzzed
@given(body=shown(BODY))
def test_a_composed_job_is_taken_or_refused_with_its_places(free: Stand, body: object) -> None:
    answer = sent(free, "/jobs", body)

    assert_taken_or_refused(answer, 201)
    if answer.status_code == 201:
        free.turn()
        shown = free.client.get(f"{API}/jobs/{answer.json['job_id']}")
        assert (shown.status_code, shown.json["type"]) == (200, answer.json["type"])
        assert free.client.get(f"{API}/jobs/{answer.json['job_id']}/tasks").status_code == 200
        assert free.client.get(f"{API}/jobs/{answer.json['job_id']}/why").status_code == 200
        sent(free, f"/jobs/{answer.json['job_id']}/cancel", {})


@fuzzed
@given(items=shown(mostly(some.lists(INPUT, max_size=4)) | INPUT), stage=some.integers(0, 3), paused=some.booleans())
def test_added_tasks_are_taken_or_refused_with_their_places(
    free: Stand, items: object, stage: int, paused: bool
) -> None:
    job_id = sent(free, "/jobs", {"type": "open", "paused": True}).json["job_id"]

    answer = sent(free, f"/jobs/{job_id}/stages/{stage}/tasks?paused={str(paused).lower()}", items)

    if stage == 3:
        assert answer.status_code in (404, 422, 400), answer.text
    else:
        assert_taken_or_refused(answer, 201)
