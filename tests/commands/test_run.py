"""`run`: an engine for one job, from a catalogue to artefacts and an exit code, without any server."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from echelon.shared.command import ExitCode
from tests.commands.calling import Caller
from tests.contract.servers import free_port
from tests.system.process import until


def heard(process: subprocess.Popen[str], words: str) -> str:
    """Read the words that a process says for people until these come."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was never said: {said}")


def processes_in(folder: Path) -> list[int]:
    """Return the processes whose working directory lies in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_job_runs_and_its_artefacts_are_listed(alone: Caller, catalogue: Path, tmp_path: Path) -> None:
    done = alone("run", catalogue, "hello", "-p", "name=Ada", "--volume", tmp_path / "v")

    assert done.code == ExitCode.GOOD, done.err
    assert [line.split() for line in done.out.splitlines()] == [["SIZE", "ARTEFACT"], ["12", "B", "out/hello.txt"]]
    assert "stage 0 Greet: COMPLETED, 1 of 1 task" in done.err
    assert f"1 artefact, 12 B, in {tmp_path}/v/jobs/" in done.err


def test_without_a_volume_the_files_stay_in_a_temporary_folder(alone: Caller, catalogue: Path) -> None:
    done = alone("run", catalogue, "hello", "--json")

    told = json.loads(done.out)
    assert (done.code, told["job"]["state"]) == (ExitCode.GOOD, "COMPLETED")
    assert [one["path"] for one in told["artefacts"]] == ["out/hello.txt"]
    assert (Path(told["folder"]) / "out" / "hello.txt").read_text() == "Hello, world!\n"


FLAKY = """
tasks:
  count: {exec_command: sh, exec_args: [-c, 'echo once >> counted']}
  need: {input: {file: }, exec_command: test, exec_args: [-e, "{file}"]}
  say: {exec_command: echo, exec_args: [all is well]}
jobs:
  flaky:
    input: {file: }
    stages: [{name: Count, task_class: count}, {name: Need, task_class: need}]
  say: {stages: [{name: Say, task_class: say}]}
"""


def test_what_a_failed_run_says_last_runs_again_only_what_failed(alone: Caller, tmp_path: Path) -> None:
    file, needed = tmp_path / "jobs.yaml", tmp_path / "needed"
    file.write_text(FLAKY)
    failed = alone("run", file, "flaky", "-p", f"file={needed}", "--volume", tmp_path / "a volume")
    words = re.search(r"to run again only what failed:\n  echelon (.*)\n  echelon (.*)\n", failed.err)
    assert failed.code == ExitCode.JOB_FAILED and words is not None

    needed.touch()
    port = free_port()
    server = alone.start(*shlex.split(words[1]), "--listen", f"127.0.0.1:{port}")
    try:
        assert server.stderr is not None and "listens on" in server.stderr.readline()
        again = Caller(alone.home, f"http://127.0.0.1:{port}")(*shlex.split(words[2]), "--watch")
    finally:
        server.terminate()
        server.communicate(timeout=60)

    assert again.code == ExitCode.GOOD, again.err
    (counted,) = (tmp_path / "a volume").glob("jobs/*/work/counted")
    assert counted.read_text() == "once\n"


def test_what_a_failed_run_says_last_names_the_secrets_that_a_retry_needs(alone: Caller, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "tasks: {fail: {exec_command: 'false'}}\njobs:\n  fail:\n    input:\n"
        "      token: {source: http-header, key: X-Token}\n      trace: {source: http-header, secret: false}\n"
        "      pin: {secret: true}\n      name:\n    stages: [{task_class: fail}]\n"
    )

    failed = alone("run", file, "fail", "-H", "X-Token: s3cr3t", "-H", "trace: on", "-p", "pin=1234", "-p", "name=Ada")

    (line,) = re.findall(r"\n  echelon retry \w+ (.*)\n", failed.err)
    assert sorted(shlex.split(line)) == ["-H", "-p", "X-Token: ...", "pin=..."], failed.err


def test_an_input_without_its_option_is_told_the_option(alone: Caller, catalogue: Path) -> None:
    refused = alone("run", catalogue, "hello", "name=Ada")

    assert refused.code == ExitCode.USAGE and "(name=Ada); an input is written -p NAME=VALUE" in refused.err


def test_a_good_run_without_artefacts_shows_its_output_and_leaves_no_folder(alone: Caller, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    file = tmp_path / "jobs.yaml"
    file.write_text(FLAKY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path / "tmp"))
        done = alone("run", file, "say")
        left = [one.name for one in (tmp_path / "tmp").glob("echelon-*")]
        alone("run", file, "say", "--keep")

    assert done.code == ExitCode.GOOD and "all is well" in done.out
    assert left == []
    assert len(list((tmp_path / "tmp").glob("echelon-*"))) == 1


@pytest.mark.parametrize("arguments", [["fail"], ["hello"], ["odd_files"], ["hello", "--json"], ["hello", "-p", "x=1"]])
def test_a_run_leaves_nothing_or_says_how_to_remove_it(
    alone: Caller, catalogue: Path, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path / "tmp"))
        done = alone("run", catalogue, *arguments)

    for folder in (tmp_path / "tmp").glob("echelon-*"):
        assert f"to remove all its files: rm -r {folder}\n" in done.err
    assert ("rm -r" in done.err) == (done.code != ExitCode.NOT_VALID)
    assert ("2 more entries of its folder are left out" in done.err) == (arguments == ["odd_files"])


def test_files_of_a_job_stay_when_the_command_itself_fails(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    run = f"{sys.executable} -m echelon.shared.command run {catalogue} fail"
    # The command cannot write how the job ended: nothing reads its messages any more.
    subprocess.run(
        ["bash", "-c", f"{run} 2>&1 >/dev/null | true"], check=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    )

    assert len(list((tmp_path / "tmp").glob("echelon-*/jobs/*"))) == 1


def test_a_failed_task_is_shown_with_the_end_of_its_stderr(alone: Caller, catalogue: Path) -> None:
    done = alone("run", catalogue, "fail")

    assert (done.code, done.out) == (ExitCode.JOB_FAILED, "")
    assert "✗ task 0.0 fail failed" in done.err
    assert done.err.count("the disk is on fire") == 1
    assert "is FAILED" in done.err


def test_a_failure_that_does_not_count_is_told_and_ends_well(alone: Caller, catalogue: Path) -> None:
    done = alone("run", catalogue, "fan")

    strict = alone("run", catalogue, "fan", "--strict", "--json")

    assert done.code == ExitCode.GOOD
    assert "stage 0 Fan: COMPLETED, 1 failed, 3 of 3 tasks" in done.err
    assert "is COMPLETED, 1 failed after " in done.err
    assert strict.code == ExitCode.JOB_FAILED
    assert json.loads(strict.out)["job"]["failed_tasks"] == 1


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("sh missing.sh", ExitCode.JOB_FAILED, "exit code"),
        ("true", ExitCode.JOB_FAILED, "has left no spawn.json"),
        ("echo '[{},]' > spawn.json", ExitCode.JOB_FAILED, "there is a comma before the ]"),
        ("echo '[]' > spawn.json", ExitCode.GOOD, "is COMPLETED"),
    ],
)
def test_a_job_whose_spawn_task_fails_is_failed_although_failures_of_tasks_do_not_count(
    alone: Caller, tmp_path: Path, script: str, code: int, said: str
) -> None:
    tasks = {"list": {"exec_command": "sh", "exec_args": ["-c", script]}, "work": {"exec_command": "true"}}
    stages = [{"spawn_task": "list", "task_class": "work", "job_failed_on_error": False}, {"task_class": "work"}]
    file = tmp_path / "jobs.yaml"
    file.write_text(json.dumps({"tasks": tasks, "jobs": {"fan": {"stages": stages}}}))

    done = alone("run", file, "fan")

    assert (done.code, said in done.err) == (code, True), done.err


def test_stages_that_run_at_the_same_time_do_not_take_each_others_items(alone: Caller, tmp_path: Path) -> None:
    scripts = {
        "three": "until test -e five; do sleep 0.01; done",
        "five": "echo '[{}, {}, {}, {}, {}]' | tee spawn.json > $ECHELON_SPAWN_FILE; touch five",
    }
    tasks = {name: {"exec_command": "sh", "exec_args": ["-c", script]} for name, script in scripts.items()}
    stages = [{"name": name, "spawn_task": name, "task_class": "work", "order": 1} for name in scripts]
    file = tmp_path / "jobs.yaml"
    file.write_text(
        json.dumps({"tasks": {**tasks, "work": {"exec_command": "true"}}, "jobs": {"pair": {"stages": stages}}})
    )

    done = alone("run", file, "pair")

    assert done.code == ExitCode.JOB_FAILED, done.err
    assert "the spawn.json in its working directory may be that of another stage" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["helo"], ExitCode.NOT_FOUND, "did you mean 'hello'"),
        (["add"], ExitCode.NOT_VALID, "input n: is required  (-p n=...)"),
        (["add", "-p", "n=x"], ExitCode.NOT_VALID, "'x' is not a whole number"),
        (["fetch"], ExitCode.NOT_VALID, "(-H 'Authorization: ...')"),
        (["hello", "--timeout", "soon"], ExitCode.USAGE, "--timeout soon: write a number of seconds"),
        (["hello", "--slots", "0"], ExitCode.USAGE, "--slots: '0' cannot be used"),
    ],
)
def test_a_mistake_ends_before_anything_runs(
    alone: Caller, catalogue: Path, arguments: list[str], code: int, said: str
) -> None:
    done = alone("run", catalogue, *arguments)

    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_catalogue_with_mistakes_is_not_run(alone: Caller, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("jobs: {j: {}}")

    done = alone("run", "bad.yaml", "j")

    assert (done.code, done.out) == (ExitCode.NOT_VALID, "")
    assert "bad.yaml:1:" in done.err


def test_ctrl_c_cancels_the_job_and_ends_its_processes(alone: Caller, catalogue: Path, tmp_path: Path) -> None:
    running = alone.start("run", catalogue, "hold", "--volume", tmp_path / "v")
    until(lambda: bool(processes_in(tmp_path / "v")), "the task runs")

    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)

    assert (running.returncode, out) == (ExitCode.CANCELLED, "")
    assert "cancelling the job" in err
    assert "is CANCELLED" in err
    assert processes_in(tmp_path / "v") == []


def test_a_second_ctrl_c_gives_a_stubborn_task_no_more_time(alone: Caller, catalogue: Path, tmp_path: Path) -> None:
    running = alone.start("run", catalogue, "stubborn", "--volume", tmp_path / "v")
    until(lambda: any((tmp_path / "v").glob("jobs/*/work/ready")), "the task runs")

    running.send_signal(signal.SIGINT)
    heard(running, "cancelling the job")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=25)

    assert running.returncode == ExitCode.CANCELLED
    assert processes_in(tmp_path / "v") == []


def test_a_job_that_takes_too_long_is_cancelled(alone: Caller, catalogue: Path, tmp_path: Path) -> None:
    done = alone("run", catalogue, "hold", "--volume", tmp_path / "v", "--timeout", "1s")

    assert done.code == ExitCode.TIMED_OUT
    assert "it was cancelled because it took longer than 1.0 s" in done.err
    assert processes_in(tmp_path / "v") == []


def test_a_value_may_come_from_stdin(alone: Caller, catalogue: Path) -> None:
    done = alone("run", catalogue, "hello", "-p", "name=@-", "--json", stdin="Ada\n")

    assert json.loads(done.out)["job"]["input"] == {"name": "Ada"}


def test_a_job_that_takes_its_workspace_away_ends_as_it_has_ended(alone: Caller, tmp_path: Path) -> None:
    catalogue = tmp_path / "c.yaml"
    catalogue.write_text(
        "tasks:\n"
        "  swap: {exec_command: sh, exec_args: [-c, 'mv \"$ECHELON_JOB_DIR\" ../away; ln -s away ../work']}\n"
        "jobs:\n"
        "  swap: {stages: [{name: Swap, task_class: swap}]}\n"
    )

    done = alone("run", catalogue, "swap", "--volume", tmp_path / "v")

    assert done.code == ExitCode.GOOD, done.err
    assert "work is a symbolic link" in done.err
