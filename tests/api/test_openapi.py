"""The OpenAPI document tells the truth: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import positive_data_acceptance

from echelon.controller import catalogue_shapes, shapes
from echelon.controller.api.config import ApiSettings
from tests.api.shape import assert_shape
from tests.api.stand import API, CATALOGUE, Stand

EXAMPLES = int(os.environ.get("ECHELON_FUZZ", "25"))
schemathesis_settings = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


THINGS = ("job", "stage", "task")
#: A stage to which anything that is fit can be added.
OPEN = """
      growing:
        stages:
        - {name: First, task_class: list_apart}
        - {name: More, task_class: say, tasks: open}
"""


class Played:
    """A stand with jobs in several states, whose ids the fuzzer finds."""

    def __init__(self, folder: Path) -> None:
        # A followed log of an open job would go on: it ends with the process, so this one is about to end.
        stopping = Event()
        stopping.set()
        here = ApiSettings(stopping=stopping)
        self.stand = Stand(folder, here, catalogue=CATALOGUE.rstrip() + OPEN, allow_inline_commands=True)
        self.done = self.stand.finished()["job_id"]
        self.open = self.stand.post("fan")["job_id"]
        self.growing = self.stand.post("growing")["job_id"]
        self.task = self.stand.get(f"/jobs/{self.done}/tasks")["items"][0]["task_id"]
        self.stand.leave(self.done, "a.txt", b"content")
        self.stand.print(self.done, "stdout", b"printed \xff\n")
        self.schema: Any = schemathesis.openapi.from_wsgi("/openapi.json", self.stand.app)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    made = Played(Path(tmp_path_factory.mktemp("stand")))
    yield made
    made.stand.close()


def operations_of(played: Played) -> list[Any]:
    return [found.ok() for found in played.schema.get_all_operations()]


def test_every_route_is_documented_with_an_answer_and_its_refusals(played: Played) -> None:
    document = played.stand.client.get("/openapi.json").json
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    routed = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in played.stand.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith(("/docs", "/openapi.json"))
    }

    assert documented == routed
    for path, method in [(path, method) for method, path in documented]:
        operation = document["paths"][path][method.lower()]
        assert operation["summary"] and {"500", "503"} <= operation["responses"].keys()


#: Clients that are made from the document have a function of each of these names.
OPERATIONS = {
    *(f"{verb}_{thing}" for verb in ("pause", "resume", "cancel", "kill", "retry", "skip") for thing in THINGS),
    *(f"explain_{thing}" for thing in THINGS),
    "submit_job", "list_jobs", "get_job", "delete_job", "list_events", "list_errors", "get_stage", "add_tasks",
    "list_tasks", "get_task", "find_ids", "set_job_priority", "set_stage_priority", "retry_tasks", "get_job_log",
    "get_task_log", "list_artefacts", "get_artefact", "get_artefacts_zip", "get_definitions", "get_job_definition",
    "list_workers", "list_queues", "get_liveness", "get_readiness", "get_metrics", "prune_jobs", "drain_worker",
}  # fmt: skip


def test_every_operation_keeps_its_name(played: Played) -> None:
    paths = played.stand.client.get("/openapi.json").json["paths"].values()
    names = [item[method]["operationId"] for item in paths for method in item if method != "parameters"]

    assert sorted(names) == sorted(OPERATIONS)


def test_an_operation_has_the_parameters_of_its_query_beside_its_headers(played: Played) -> None:
    paths = played.stand.client.get("/openapi.json").json["paths"]

    def names(path: str, method: str) -> list[tuple[str, str]]:
        return [(one["in"], one["name"]) for one in paths[API + path][method]["parameters"]]

    assert names("/jobs/{job_id}/log", "get") == [("query", "follow"), ("query", "since"), ("header", "Range")]
    choice = [("query", "state"), ("query", "index")]
    assert names("/jobs/{job_id}/cancel", "post") == [*choice, ("header", "If-Match")]
    assert ("query", "downstream") in names("/tasks/{task_id}/retry", "post")


def test_the_page_names_every_parameter_of_a_log_and_of_a_list_of_tasks(played: Played) -> None:
    paths = played.stand.client.get("/openapi.json").json["paths"]
    page = (Path(__file__).parents[2] / "docs" / "reference" / "rest.md").read_text(encoding="utf-8")
    for path in ("/jobs/{job_id}/log", "/tasks/{task_id}/log", "/jobs/{job_id}/tasks"):
        (row,) = re.findall(rf"^\| `GET {re.escape(API + path)}` \| (.*) \|$", page, re.MULTILINE)
        named = [one["name"] for one in paths[API + path]["get"]["parameters"] if one["in"] == "query"]
        assert named and [name for name in named if not re.search(rf"`{name}\b", row)] == []


def test_every_schema_is_used_and_those_of_answers_are_open(played: Played) -> None:
    document = played.stand.client.get("/openapi.json").json
    text = json.dumps(document)

    assert "\\u0000" not in text
    for name, schema in document["components"]["schemas"].items():
        assert f'"#/components/schemas/{name}"' in text
        if schema["type"] == "object" and hasattr(shapes, name):
            assert schema["additionalProperties"] is True, name


def test_the_document_says_how_a_token_is_shown(played: Played) -> None:
    document = played.stand.client.get("/openapi.json").json

    assert document["components"]["securitySchemes"].keys() == {"bearer", "token", "basic"}
    assert [one for one in document["security"] if not one or "bearer" in one] == [{"bearer": []}, {}]
    assert document["paths"]["/healthz"]["get"]["security"] == []


def test_the_description_of_a_submission_says_where_header_inputs_are_named(played: Played) -> None:
    operation = played.stand.client.get("/openapi.json").json["paths"][f"{API}/jobs"]["post"]
    assert f"GET {API}/definitions/jobs/{{type}}" in operation["description"]

    inputs = played.stand.get("/definitions/jobs/guarded")["input"]
    (header,) = [one["key"] for one in inputs if one["source"] == "http-header"]
    body = {"type": "guarded", "input": {"text": "hello"}}
    refused = played.stand.client.post(f"{API}/jobs", json=body)
    accepted = played.stand.client.post(f"{API}/jobs", json=body, headers={header: "Bearer abc"})

    assert (refused.status_code, accepted.status_code) == (422, 201)


#: Nothing can be wrong with a request that holds nothing, or any text.
TAKE_ANYTHING = {
    f"{API}/definitions",
    f"{API}/definitions/jobs/{{type}}",
    f"{API}/workers",
    f"{API}/queues",
    "/healthz",
    "/readyz",
    "/metrics",
}


# schemathesis closes no answers, so the files behind downloads stay open until they are collected.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_nothing_that_is_sent_gets_an_undocumented_answer(
    played: Played, mode: schemathesis.GenerationMode, record_property: Callable[[str, object], None]
) -> None:
    nothing_to_send, sent = set(), 0
    for operation in operations_of(played):
        known = known_ids(played) if operation.method != "delete" else {}
        try:
            sent += fuzz(operation.as_strategy(generation_mode=mode), known)
        except Unsatisfiable:
            nothing_to_send.add(operation.path)
    record_property("shown", f"{sent} requests")

    assert nothing_to_send <= {path for path in TAKE_ANYTHING if mode is schemathesis.GenerationMode.NEGATIVE}


def fuzz(strategy: Any, known: dict[str, list[Any]]) -> int:
    """Send what a strategy yields, about half of the ids be ones that exist; return how many requests that were."""
    sent = 0

    @given(case=strategy, data=some.data())
    @schemathesis_settings
    def send(case: Any, data: some.DataObject) -> None:
        nonlocal sent
        sent += 1
        for name in (case.path_parameters or {}).keys() & known.keys():
            if data.draw(some.booleans()):
                case.path_parameters[name] = data.draw(some.sampled_from(known[name]))
        if case.path.endswith("/prune") and isinstance(case.body, dict) and "older_than" in case.body:
            # What has been played is still needed.
            case.body.setdefault("dry_run", True)
            case.body["dry_run"] = case.body["dry_run"] is False or case.body["dry_run"]
        # Which cursors and types exist, no schema can tell.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    send()
    return sent


def known_ids(played: Played) -> dict[str, list[Any]]:
    return {
        "job_id": [played.done, played.open, played.growing],
        "task_id": [played.task],
        "stage": [0, 1],
        "path": ["a.txt"],
        "type": ["hello"],
    }


ANSWERS: list[tuple[str, object]] = [
    ("/jobs", shapes.PageOf[shapes.Job]),
    ("/jobs/{done}", shapes.Job),
    ("/jobs/{open}", shapes.Job),
    ("/jobs/{done}/tasks", shapes.PageOf[shapes.Task]),
    ("/jobs/{open}/tasks", shapes.PageOf[shapes.Task]),
    ("/jobs/{done}/events", shapes.PageOf[shapes.JobEvent]),
    ("/jobs/{done}/artefacts", shapes.JobArtefactPage),
    ("/jobs/{done}/why", shapes.Why),
    ("/jobs/{open}/stages/1", shapes.Stage),
    ("/jobs/{open}/stages/1/why", shapes.Why),
    ("/tasks/{task}", shapes.TaskWithAttempts),
    ("/tasks/{task}/why", shapes.Why),
    ("/definitions", catalogue_shapes.Definitions),
    ("/definitions/jobs/hello", catalogue_shapes.CatalogueJob),
    ("/workers", shapes.PageOf[shapes.Worker]),
    ("/queues", shapes.PageOf[shapes.Queue]),
    ("/ids?prefix=a", shapes.MatchingIds),
    ("/../../healthz", shapes.Alive),
    ("/../../readyz", shapes.Readiness),
]


@pytest.mark.parametrize(("path", "shape"), ANSWERS, ids=[path for path, _ in ANSWERS])
def test_an_answer_holds_exactly_what_its_shape_says(played: Played, path: str, shape: object) -> None:
    address = API + path.format(done=played.done, open=played.open, task=played.task)
    answer = played.stand.client.get(address.replace(f"{API}/../..", "")).json

    assert_shape(answer, shape)
