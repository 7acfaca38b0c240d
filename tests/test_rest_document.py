"""The examples of the page on REST are answers of a real run, but for ids, times and names of the machine."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from echelon import Client
from tests.system.process import Standalone

ROOT = Path(__file__).resolve().parent.parent
#: Differ from run to run.
_VARY = re.compile(r"(job|task)_id|\w+_at|etag|revision|worker")

Json = Any


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """Return answers by the calls that the page shows them for."""
    with Standalone(Path(tmp_path_factory.mktemp("engine")), (ROOT / "example" / "hello.yaml").read_text()) as engine:
        with Client(engine.url) as client:
            job_id = client.submit_job("hello", input={"name": "Ada"}, wait=60)["job_id"]
            task_id = next(client.list_tasks(job_id, stage=1))["task_id"]
        paths = {
            "GET /api/v1/jobs/{job_id}": f"/jobs/{job_id}",
            "GET /api/v1/tasks/{task_id}": f"/tasks/{task_id}",
            "GET /api/v1/jobs/{job_id}/artefacts": f"/jobs/{job_id}/artefacts",
        }
        found = {}
        for call, path in paths.items():
            with urllib.request.urlopen(f"{engine.url}/api/v1{path}") as answer:
                found[call] = json.load(answer)
        return found


def read_examples() -> dict[str, Json]:
    page = (ROOT / "docs" / "reference" / "rest.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^`([^`\n]+)`[^\n]*:\n\n```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return {call: json.loads(text) for call, text in blocks}


def without_variety(value: Json) -> Json:
    """Return a value with what differs from run to run replaced by its type."""
    if isinstance(value, dict):
        return {
            key: type(inner).__name__ if _VARY.fullmatch(key) and inner is not None else without_variety(inner)
            for key, inner in value.items()
        }
    return [without_variety(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("call", [
    "GET /api/v1/jobs/{job_id}", "GET /api/v1/tasks/{task_id}", "GET /api/v1/jobs/{job_id}/artefacts",
])  # fmt: skip
def test_an_example_is_what_a_run_answers(answers: dict[str, Json], call: str) -> None:
    example = read_examples().get(call)

    assert without_variety(example) == without_variety(answers[call]), json.dumps(answers[call], indent=2)
