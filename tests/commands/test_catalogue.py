"""What a catalogue offers is listed: by `catalogue`, and by `run` without a job."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from echelon.shared.command import main_group
from echelon.shared.wrapping import measure_text
from tests.commands.calling import Caller
from tests.commands.catalogue import CATALOGUE

ONE = "tasks: {t: {exec_command: 'true'}}\njobs: {only: {stages: [{name: A, task_class: t}]}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "jobs.yaml"
    made.write_text(CATALOGUE)
    return made


def called(*arguments: str | Path) -> object:
    return main_group([str(one) for one in arguments], standalone_mode=False)


def test_jobs_inputs_and_stages_are_listed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called("catalogue", file)

    jobs, inputs, stages = capsys.readouterr().out.split("\n\n")
    assert next(line for line in jobs.splitlines() if line.startswith("hello ")).endswith("Greets somebody")
    assert any(line.split()[:4] == ["fetch", "token", "-H", "'Authorization:"] for line in inputs.splitlines())
    assert any(line.split() == ["add", "n", "-p", "n=...", "text", "(required)"] for line in inputs.splitlines())
    assert any(line.split() == ["hello", "name", "-p", "name=...", "text", "world"] for line in inputs.splitlines())
    assert any(line.split() == ["fan", "0", "Fan", "list", ">", "odd"] for line in stages.splitlines())


def test_one_job_is_listed_with_the_call_that_runs_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called("catalogue", file, "fetch")

    said = capsys.readouterr()
    assert "hello" not in said.out
    assert said.err == f"to run one: echelon run {file} fetch -H 'Authorization: ...'\n"


def test_programs_get_the_shape_of_the_rest_interface(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called("catalogue", file, "hello", "--json")

    (job,) = json.loads(capsys.readouterr().out)
    assert (job["type"], job["input"][0]["default"], job["stages"][0]["task_class"]) == ("hello", "world", "greet")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_list_is_right_at_every_width(
    file: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    called("catalogue", file)

    lines = capsys.readouterr().out.splitlines()
    assert max(map(measure_text, lines)) <= width
    assert any("Greets somebody" in line for line in lines)


def test_run_without_a_job_lists_them_unless_there_is_one_only(file: Path, alone: Caller) -> None:
    refused = alone("run", file)
    assert "name the job to run; for example: echelon run" in " ".join(refused.err.split())
    assert "Greets somebody" in refused.out

    file.write_text(ONE)
    # A process of its own: one that runs tasks ends all that its process has started.
    done = alone("run", file, "--volume", file.parent / "volume")
    assert (done.code, "is COMPLETED" in done.err) == (0, True)
