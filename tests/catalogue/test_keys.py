"""A key is described once: the reference page lists it, and a new one is known everywhere."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from echelon.controller.catalogue.definitions import (
    JobDefinition,
    LaterTasks,
    ListedTasks,
    SingleTask,
    SpawnedTasks,
    StageDefinition,
    TaskDefinition,
)
from echelon.controller.catalogue.keys import Key, keys_of
from echelon.controller.catalogue.kinds import Duration
from echelon.controller.catalogue.stored import from_json
from echelon.controller.catalogue.task_classes import InputDefinition, Retry, TaskClass

ROOT = Path(__file__).resolve().parents[2]


def reference_rows(record: type) -> str:
    """Return the table of a record's keys as the reference page has it."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, key in keys_of(record).items():
        spelled = f"`{name}`" + (f" (or `{key.alias}`)" if key.alias else "")
        rows.append(f"| {spelled} | {default_of(record, key)} | {key.description} |")
    return "\n".join(rows)


def default_of(record: type, key: Key) -> str:
    if key.required:
        return "required"
    field = next(field for field in dataclasses.fields(record) if field.name == key.field)
    if key.usual or key.name != key.field:
        return key.usual
    value = field.default_factory() if callable(field.default_factory) else field.default
    if value is None:
        return "none"
    if isinstance(key.kind, Duration):
        return f"`{value:g}s`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Mapping | tuple):
        return "`{}`" if isinstance(value, Mapping) else "`[]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


@pytest.mark.parametrize("record", [TaskClass, Retry, InputDefinition, JobDefinition, StageDefinition])
def test_the_reference_page_lists_every_key_with_its_description(record: type) -> None:
    rows = reference_rows(record)

    assert rows in (ROOT / "docs/reference/catalogue.md").read_text(encoding="utf-8"), "\n" + rows


# --- a new key

#: Looks up a key `colour` wherever a key of a command has to be known.
LOOK = """
import sys
from pathlib import Path

from echelon.controller.api.inline import COMPONENTS
from echelon.controller.catalogue.task_classes import InlineCommand, TaskClass
from echelon.controller.catalogue.inline import compose_job
from echelon.controller.catalogue.jsonschema import json_schema
from echelon.controller.catalogue.loader import load_catalogue
from tests.catalogue.test_keys import reference_rows

file = Path(sys.argv[1])
file.write_text("tasks: {t: {exec_command: x, colour: 5}}")
catalogue = load_catalogue([file]).require_valid()
assert catalogue.tasks["t"].colour == "5", "the parser"

file.write_text("tasks: {t: {exec_command: x, color: red}}")
(mistake,) = load_catalogue([file]).mistakes
assert mistake.remedy == "did you mean colour?", "the suggestions of validate"

assert json_schema()["$defs"]["task"]["properties"]["colour"]["description"] == "Of its row.", "the JSON Schema"

stages = [{"name": "One", "tasks": [{"exec_command": "x", "colour": "red"}]}]
composed = compose_job(catalogue, "mine", stages, commands=True)
(task,) = composed.catalogue.tasks.values()
assert task.colour == "red", "a composed job"
stages[0]["tasks"][0]["colour"] = 5
(mistake,) = compose_job(catalogue, "mine", stages, commands=True).mistakes
assert mistake == ("#/stages/0/tasks/0/colour", "must be text"), mistake

command = COMPONENTS["InlineCommand"]
assert command["properties"]["colour"]["type"] == "string", "the OpenAPI document"

assert "| `colour` | `blue` | Of its row. |" in reference_rows(TaskClass), "the reference page"
"""


def test_a_key_that_is_added_to_one_description_is_known_everywhere(tmp_path: Path) -> None:
    for folder in ("echelon", "controller", "worker", "shared"):
        skipped = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=skipped)
    tests = tmp_path / "tests" / "catalogue"
    tests.mkdir(parents=True)
    shutil.copy(__file__, tests)
    records = tmp_path / "controller/catalogue/task_classes.py"
    text = records.read_text(encoding="utf-8")
    place = "    #: Seconds; None: no limit.\n    timeout:"
    assert place in text
    added = f'    colour: str = described(TextValue(), "Of its row.", "blue")\n{place}'
    records.write_text(text.replace(place, added), encoding="utf-8")

    command = [sys.executable, "-c", LOOK, str(tmp_path / "catalogue.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


# --- what an older release stored

OLDER = """{"revision": "r", "tasks": {"t": {"task_class": "t", "exec_command": "x"}}, "jobs":
 {"j": {"type": "j", "stages": [
  {"name": "a", "task_class": "t", "spawn_task": null, "open": false, "tasks": []},
  {"name": "b", "task_class": "t", "spawn_task": "t", "open": false, "tasks": []},
  {"name": "c", "task_class": "t", "spawn_task": null, "open": true, "tasks": []},
  {"name": "d", "task_class": "t", "spawn_task": null, "open": false,
   "tasks": [{"task_class": "t", "input": {}, "paused": true}]}
]}}, "base": null}"""


def test_a_catalogue_that_an_older_release_stored_is_understood() -> None:
    sources = [stage.source for stage in from_json(OLDER).jobs["j"].stages]

    assert sources == [SingleTask(), SpawnedTasks("t"), LaterTasks(), ListedTasks((TaskDefinition("t", {}, True),))]
