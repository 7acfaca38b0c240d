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


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return every place within a tree that something else can be put into: its holder, and the key there."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [place for key in keys for place in [(node, key), *places(node[key])]]


@some.composite
def spoilt(draw: some.DrawFn, good: some.SearchStrategy[Any]) -> Any:
    """Return what is good, in up to three places of which something else stands, or nothing, or one key more."""
    tree = {"body": draw(good)}
    for _ in range(draw(some.integers(0, 3))):
        holder, key = draw(some.sampled_from(places(tree)))
        action = draw(some.sampled_from(["other", "other", "drop", "more"]))
        if action == "other" or holder is tree:
            holder[key] = draw(ODD)
        elif action == "drop":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(NAMES)] = draw(ODD)
        else:
            holder.append(draw(ODD))
    return tree["body"]


LENGTH = some.sampled_from(["1s", "0.5s", "10m", 5])
RETRY = some.fixed_dictionaries({"limit": some.integers(0, 3)}, optional={"delay": LENGTH, "factor": some.just(2)})
COMMAND = some.fixed_dictionaries(
    {"exec_command": some.sampled_from(["true", "sh"])},
    optional={
        "exec_args": some.lists(some.sampled_from(["a", "{index}", "{{ 1 + 1 }}", ""]), max_size=3),
        "env": some.dictionaries(some.sampled_from(["A", "B"]), some.text(max_size=4), max_size=2),
        "queue": some.just("default"),
        "timeout": LENGTH,
        "grace": LENGTH,
        "retry": RETRY,
        "workdir": some.sampled_from(["job", "task"]),
        "paused": some.booleans(),
    },
)
BY_CLASS = some.fixed_dictionaries({"task_class": some.sampled_from(["step", "flaky"])}, optional={
    "input": some.just({}), "paused": some.booleans()})  # fmt: skip
FETCH = some.fixed_dictionaries({"url": some.text("abc", max_size=5)}, optional={"size": some.integers(0, 9)})
BY_INPUT = some.fixed_dictionaries({"task_class": some.just("fetch"), "input": FETCH})
TASKS = some.lists(COMMAND | BY_CLASS | BY_INPUT, min_size=1, max_size=4)
MORE = {
    "name": some.sampled_from(["One", "Two", "é"]),
    "order": some.integers(0, 3),
    "job_failed_on_error": some.booleans(),
    "max_parallel": some.integers(1, 9),
    "max_failed": some.integers(0, 3) | some.sampled_from(["0%", "50%"]),
    "paused": some.booleans(),
}
STAGE = (
    some.fixed_dictionaries({"tasks": TASKS}, optional=MORE)
    | some.fixed_dictionaries({"tasks": some.just("open"), "task_class": some.sampled_from(["step", "fetch"])})
    | some.fixed_dictionaries({"task_class": some.just("fetch"), "spawn_task": some.just("list")}, optional=MORE)
    | some.fixed_dictionaries({"task_class": some.just("step"), "on_error": some.just("block")})
)
BODY = spoilt(
    some.fixed_dictionaries(
        {"name": some.sampled_from(["mine", "a job"]), "stages": some.lists(STAGE, min_size=1, max_size=4)},
        optional={"paused": some.booleans()},
    )
)
ITEMS = spoilt(some.lists(FETCH, min_size=1, max_size=4) | FETCH)


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(Path(tmp_path_factory.mktemp("stand")), catalogue=CATALOGUE, allow_inline_commands=True)
    yield made
    made.close()


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
@given(body=BODY)
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
@given(items=ITEMS, stage=some.integers(0, 3), paused=some.booleans())
def test_added_tasks_are_taken_or_refused_with_their_places(
    free: Stand, items: object, stage: int, paused: bool
) -> None:
    job_id = sent(free, "/jobs", {"type": "open", "paused": True}).json["job_id"]

    answer = sent(free, f"/jobs/{job_id}/stages/{stage}/tasks?paused={str(paused).lower()}", items)

    if stage == 3:
        assert answer.status_code in (404, 422, 400), answer.text
    else:
        assert_taken_or_refused(answer, 201)
