"""`validate` names every mistake with its place, and ends with 5."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from echelon.shared.command import ExitCode, main_group
from tests.commands.catalogue import CATALOGUE

BAD = """tasks:
  a:
    exec_comand: ls
jobs:
  j: {stages: [{name: x, task_class: b}]}
"""


def test_a_valid_catalogue_is_said_to_be_valid(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(CATALOGUE)

    done = CliRunner().invoke(main_group, ["validate", str(file)])

    assert (done.exit_code, done.stdout, done.stderr) == (ExitCode.GOOD, "", "valid\n")


def test_every_mistake_is_a_line_with_its_place_and_its_remedy(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(BAD)

    done = CliRunner().invoke(main_group, ["validate", str(file)])

    assert done.exit_code == ExitCode.NOT_VALID
    assert done.stderr == "2 mistakes\n"
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        f"{file}:3:5: error: tasks.a.exec_comand: unknown key",
        "    did you mean exec_command?",
    ]


def test_programs_get_the_mistakes_as_json(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(BAD)

    done = CliRunner().invoke(main_group, ["validate", str(file), "--json"])

    told = json.loads(done.stdout)
    assert (done.exit_code, told["valid"], len(told["mistakes"])) == (ExitCode.NOT_VALID, False, 2)
    assert told["mistakes"][0] == {
        "file": str(file),
        "line": 3,
        "column": 5,
        "message": "tasks.a.exec_comand: unknown key",
        "remedy": "did you mean exec_command?",
    }


def test_what_a_file_holds_cannot_trick_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text('tasks: {"a\\x1b]0;x\\x07": {}}')

    done = CliRunner().invoke(main_group, ["validate", str(file)])

    assert "\x1b" not in done.output


def test_a_file_that_is_not_there_is_a_usage_error() -> None:
    assert CliRunner().invoke(main_group, ["validate", "/missing.yaml"]).exit_code == ExitCode.USAGE


def test_the_schema_is_json() -> None:
    done = CliRunner().invoke(main_group, ["schema"])

    assert json.loads(done.stdout)["$schema"].startswith("https://json-schema.org/")
