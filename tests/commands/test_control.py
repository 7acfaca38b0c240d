"""Live control from the command line: hold, kill, repeat, wave through, give more work; and why nothing moves."""

from __future__ import annotations

import getpass
import json
import re
import socket
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from echelon.shared.command import GROUP, ExitCode
from tests.commands.calling import Called, Caller
from tests.commands.catalogue import CATALOGUE
from tests.commands.test_client_commands import facts, submitted
from tests.system.process import Standalone, until

ME = f"{getpass.getuser()}@{socket.gethostname()}"


def held(echelon: Caller, what: str, code: str) -> dict[str, object]:
    """Wait until this is what holds a thing back; return all that `why` tells."""
    told: dict[str, object] = {}

    def same() -> bool:
        told.update(facts(echelon, "why", what))
        return told["code"] == code

    until(same, f"{what} is {code}")
    return told


def blocked(echelon: Caller) -> str:
    """Return a job of which one task of three has failed, and which waits for a person."""
    job_id = submitted(echelon, "blocked")
    held(echelon, job_id, "BLOCKED_BY_FAILURE")
    return job_id


def attempts(echelon: Caller, job_id: str, stage: int) -> list[tuple[object, int, str]]:
    found = facts(echelon, "tasks", job_id, "--stage", str(stage))
    return [(task["index"], task["attempt"], task["state"]) for task in found]


def good(done: Called) -> str:
    assert done.code == ExitCode.GOOD, done.err
    return done.err


# --- verbs


def test_a_job_that_is_submitted_paused_begins_when_it_is_resumed(echelon: Caller) -> None:
    done = echelon("submit", "hello", "--paused")
    job_id = done.out.strip()

    assert f"PENDING, paused; 'echelon resume {job_id[:8]}' lets it begin" in done.err
    words = rf"^state +PENDING, paused\npaused +by {re.escape(ME)} since "
    assert re.search(words, echelon("show", job_id).out, re.MULTILINE)
    assert "PENDING, paused" in echelon("jobs", "--type", "hello", "--limit", "1").out
    assert good(echelon("resume", job_id)) == f"job {job_id[:8]} goes on\n"
    assert echelon("watch", job_id).code == ExitCode.GOOD


def test_what_is_so_already_is_no_mistake_and_is_said(echelon: Caller) -> None:
    job_id = submitted(echelon, "hold")

    assert good(echelon("pause", job_id)) == f"job {job_id[:8]} is paused\n"
    assert good(echelon("pause", job_id)) == f"job {job_id[:8]}: nothing to do, it is paused already\n"
    assert good(echelon("cancel", job_id)).startswith(f"job {job_id[:8]} is CANCELLED, ")


def test_what_waits_is_given_another_priority(echelon: Caller) -> None:
    job_id = submitted(echelon, "hello", "--paused", "--priority", "3")
    short = job_id[:8]
    assert [stage["priority"] for stage in facts(echelon, "show", job_id)["stages"]] == [3]

    assert good(echelon("priority", short, "9")) == f"job {short} has priority 9\n"
    assert good(echelon("priority", f"{short}.0", "4")) == f"stage {short}.0 has priority 4\n"
    assert [stage["priority"] for stage in facts(echelon, "show", job_id)["stages"]] == [4]

    for wrong in ("10", "-1", "high"):
        assert echelon("priority", "--", short, wrong).code == ExitCode.USAGE
    one_task = echelon("priority", f"{short}.0.0", "9")
    assert (one_task.code, f"name the stage, {short}.0" in one_task.err) == (ExitCode.USAGE, True)
    good(echelon("cancel", short))
    assert "it is CANCELLED already" in echelon("priority", short, "1").err


def test_a_stage_is_named_by_its_number_or_its_name(echelon: Caller) -> None:
    job_id = submitted(echelon, "gated")
    short = job_id[:8]
    told = held(echelon, job_id, "PAUSED")

    assert "Stage 1 (Right) is paused by" in str(told["sentence"])
    assert good(echelon("pause", f"{short}.last")) == f"stage {short}.2 is paused\n"
    assert good(echelon("resume", f"{short}.Right")) == f"stage {short}.1 goes on\n"
    held(echelon, f"{short}.2", "PAUSED")
    assert good(echelon("skip", f"{short}.2")) == f"stage {short}.2 is SKIPPED, 1 task with it\n"
    assert echelon("watch", job_id).code == ExitCode.GOOD


def test_one_task_of_a_stage_is_retried_and_the_others_are_kept(echelon: Caller) -> None:
    job_id = blocked(echelon)
    short = job_id[:8]

    assert f"1 task of stage {short}.0 runs again" in good(echelon("retry", f"{short}.Sort"))
    until(lambda: attempts(echelon, job_id, 0)[2] == (1, 2, "FAILED"), "it has run again")
    assert f"task {short}.0.1 runs again" in good(echelon("retry", f"{short}.0.1"))
    until(lambda: attempts(echelon, job_id, 0)[2] == (1, 3, "FAILED"), "it has run a third time")
    assert good(echelon("skip", f"{short}.0.0-2")).splitlines() == [
        f"1 task of {short}.0.0-2 is SKIPPED",
        "  2 not: it is COMPLETED already",
    ]
    assert echelon("watch", job_id).code == ExitCode.GOOD
    assert attempts(echelon, job_id, 0) == [
        (None, 1, "COMPLETED"), (0, 1, "COMPLETED"), (1, 3, "SKIPPED"), (2, 1, "COMPLETED"),
    ]  # fmt: skip


def test_all_asks_for_what_has_completed_too(echelon: Caller) -> None:
    job_id = blocked(echelon)

    without, of_all = echelon("retry", f"{job_id}.0.2"), echelon("retry", f"{job_id}.0.2", "--all")

    assert (without.code, of_all.code) == (ExitCode.CONFLICT, ExitCode.GOOD)
    until(lambda: attempts(echelon, job_id, 0)[3] == (2, 2, "COMPLETED"), "it has run again")
    echelon("cancel", job_id)


def test_a_killed_task_counts_as_a_failed_attempt(echelon: Caller) -> None:
    job_id = submitted(echelon, "hold")
    held(echelon, f"{job_id}.0.0", "RUNNING")

    assert good(echelon("kill", f"{job_id[:8]}.Hold.0")) == f"task {job_id[:8]}.0.0 is killed\n"
    assert echelon("watch", job_id).code == ExitCode.JOB_FAILED


def test_a_kill_that_ends_its_job_says_so(echelon: Caller) -> None:
    job_id = submitted(echelon, "hold")
    held(echelon, f"{job_id}.0.0", "RUNNING")

    told = good(echelon("kill", job_id))

    assert told == f"1 task of job {job_id[:8]} is killed\n  the job is FAILED now\n"
    assert echelon("why", job_id).out.startswith(f"The job is FAILED: stage 0 (Hold) failed: task 0: killed by {ME}")


def test_a_task_is_named_by_its_whole_id_too(echelon: Caller) -> None:
    job_id = submitted(echelon, "hold")
    task_id = facts(echelon, "tasks", job_id)[0]["task_id"]

    assert good(echelon("cancel", task_id)) == f"task {job_id[:8]}.0.0 is CANCELLED\n"
    assert echelon("watch", job_id).code == ExitCode.CANCELLED


def test_a_state_chooses_among_the_tasks(echelon: Caller) -> None:
    job_id = blocked(echelon)

    told = good(echelon("skip", f"{job_id}.0", "--state", "failed"))

    assert told == f"1 task of stage {job_id[:8]}.0 is SKIPPED\n"
    assert echelon("watch", job_id).code == ExitCode.GOOD
    assert echelon("skip", f"{job_id}.0.1", "--state", "failed").code == ExitCode.USAGE


def test_a_skipped_job_ends_well(echelon: Caller) -> None:
    job_id = blocked(echelon)

    assert f"job {job_id[:8]} is SKIPPED" in good(echelon("skip", job_id))
    assert echelon("watch", job_id).code == ExitCode.GOOD


def test_an_old_etag_changes_nothing(echelon: Caller) -> None:
    job_id = submitted(echelon, "hello", "--paused")
    etag = facts(echelon, "show", job_id)["etag"]

    first, second = (echelon("resume", job_id, "--if-match", etag) for _ in range(2))

    assert (first.code, second.code) == (ExitCode.GOOD, ExitCode.CONFLICT)


def test_an_answer_as_json_holds_the_thing_and_what_was_changed(echelon: Caller) -> None:
    job_id = blocked(echelon)

    told = facts(echelon, "pause", f"{job_id}.0.0-9")

    assert told["name"] == "Sort"
    assert told["changed"] == {"jobs": 0, "stages": 0, "tasks": 0}
    assert {(left["reason"], left["count"]) for left in told["unchanged"]} == {
        ("it is COMPLETED already", 2), ("it is FAILED already", 1),
    }  # fmt: skip
    echelon("cancel", job_id)


# --- adding


def test_tasks_are_added_one_or_many_and_what_is_wrong_with_them_is_said(echelon: Caller, tmp_path: Path) -> None:
    job_id = blocked(echelon)
    short = job_id[:8]
    (tmp_path / "items.json").write_text('[{"n": 7}, {"n": 9}]')

    assert good(echelon("add", f"{short}.Extra", "-p", "n=5")) == f"1 task added to stage {short}.1: {short}.1.0\n"
    assert good(echelon("add", f"{short}.1", "--from", "items.json")).endswith(f"{short}.1.1 to 1.2\n")
    assert "1 task added" in good(echelon("add", f"{short}.1", "--paused", "--from", "-", stdin='{"n": 11}'))
    for arguments, stdin, code, said in (
        (["-p", "m=5"], None, ExitCode.NOT_VALID, "m: is not an input"),
        (["-p", "n=x"], None, ExitCode.NOT_VALID, "'x' is not a whole number"),
        (["--from", "-"], '[{"n": 1}, {"n": "x"}]', ExitCode.NOT_VALID, "item 2: n: must be an integer"),
        (["--from", "-"], "[{", ExitCode.NOT_VALID, "stdin is not JSON"),
        (["--from", "-"], "5", ExitCode.NOT_VALID, "neither a list of objects nor one object"),
        (["--from", "nowhere.json"], None, ExitCode.USAGE, "cannot be read"),
        (["--from", "-", "-p", "n=1"], "[]", ExitCode.USAGE, ", not both"),
    ):
        done = echelon("add", f"{short}.Extra", *arguments, stdin=stdin)
        assert (done.code, done.out) == (code, "")
        assert said in done.err
    assert echelon("add", f"{short}.Sort", "-p", "n=1").code == ExitCode.CONFLICT
    assert echelon("add", short, "-p", "n=1").code == ExitCode.USAGE
    good(echelon("skip", f"{short}.0", "--state", "failed"))
    told = held(echelon, f"{short}.Extra", "PAUSED")
    assert str(told["sentence"]).startswith(f"Task 3 of stage 1 (Extra) is paused by {ME}.")
    assert f"'echelon resume {short}.1 --state pending' resumes its paused tasks" in echelon("why", short).err
    assert "1 held back" in echelon("show", short).out
    good(echelon("resume", f"{short}.1", "--state", "pending"))
    assert echelon("watch", job_id).code == ExitCode.GOOD
    assert echelon("logs", f"{short}.extra.3").out == "this is 11\n"


def test_a_list_that_is_too_large_for_one_request_is_said_so(echelon: Caller, tmp_path: Path) -> None:
    job_id = blocked(echelon)
    (tmp_path / "items.json").write_text(json.dumps([{"n": 1, "x": "y" * (1 << 20)}]))

    done = echelon("add", f"{job_id}.Extra", "--from", "items.json")

    assert done.code == ExitCode.NOT_VALID
    assert "ECHELON_MAX_BODY" in done.err
    good(echelon("cancel", job_id))


# --- looking


def test_why_says_the_reason_and_what_a_person_can_do(echelon: Caller) -> None:
    job_id = blocked(echelon)
    short = job_id[:8]

    stuck, later = echelon("why", short), echelon("why", f"{short}.Last.0")
    good(echelon("pause", job_id))
    paused = echelon("why", short)

    assert stuck.out == "Stage 0 (Sort) waits for a person: task 1 is FAILED: exit code 1.\n"
    assert f"'echelon logs {short}.0.1'" in stuck.err and f"'echelon skip {short}.0 --state failed'" in stuck.err
    assert (later.out, later.err) == ("Stage 2 (Last) waits for stage 0 (Sort), which is RUNNING.\n", "")
    assert re.fullmatch(rf"The job is paused by {re.escape(ME)} since [\d-]+ [\d:]+, for [\d.]+ m?s\.\n", paused.out)
    assert f"'echelon resume {short}' lets it go on" in paused.err
    assert echelon("why", f"{short}.0.0-2").code == ExitCode.USAGE
    good(echelon("cancel", job_id))
    assert echelon("why", short).out == "The job is CANCELLED.\n"


def test_watch_reports_that_a_job_waits_for_a_person(echelon: Caller) -> None:
    job_id = submitted(echelon, "blocked")
    watching = echelon.start("watch", job_id)
    assert watching.stderr is not None
    seen = iter(watching.stderr.readline, "")

    assert any("waits for a person" in line for line in seen)
    good(echelon("pause", job_id))
    assert any(line == f"the job is paused; 'echelon resume {job_id[:8]}' lets it go on\n" for line in seen)
    good(echelon("cancel", job_id))
    assert watching.wait(60) == ExitCode.CANCELLED
    watching.communicate()


def test_orders_are_shown_where_stages_do_not_just_follow_each_other(echelon: Caller) -> None:
    several, plain = submitted(echelon, "gated"), submitted(echelon, "hold", "--paused")

    told = echelon("show", several)

    assert re.search(r"^STAGE +ORDER", told.out, re.MULTILINE)
    assert re.search(r"^ +1 +1 +Right +pass +(PENDING|RUNNING) +0/1 .*paused", told.out, re.MULTILINE)
    assert f"'echelon why {several[:8]}' says what holds it back" in told.err
    assert "ORDER" not in echelon("show", plain).out
    for job_id in (several, plain):
        good(echelon("cancel", job_id))


def test_run_refuses_a_job_that_it_could_not_resume(alone: Caller, catalogue: Path) -> None:
    done = alone("run", catalogue, "gated")

    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert "stage 'Right' is paused from the start" in done.err and "echelon standalone" in done.err


def test_run_says_that_a_failure_that_blocks_waits_for_a_person_who_is_not_there(
    alone: Caller, catalogue: Path
) -> None:
    done = alone("run", catalogue, "blocked", "--timeout", "2s")

    assert done.code == ExitCode.TIMED_OUT
    assert "a failure in stage 'Sort' waits for a person" in done.err
    assert "waits for a person" in done.err.split("stage 0 Sort: RUNNING")[-1]


# --- names


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        (
            "Lost",
            ExitCode.NOT_FOUND,
            "has no stage 'Lost'. Did you mean 'Last'? Its stages are: 0 Left, 1 Right, 2 Last",
        ),
        ("7", ExitCode.NOT_FOUND, "has no stage '7'. Its stages are: 0 Left, 1 Right, 2 Last"),
        ("Left.9", ExitCode.NOT_FOUND, "--stage 0' lists them"),
        ("Left.x", ExitCode.USAGE, "'x' is no task of a stage: write a number, ranges such as 0-99,150, or spawn"),
        ("Left.spawn", ExitCode.NOT_FOUND, "there is no task"),
        ("Left.9-1", ExitCode.NOT_VALID, "'9-1'"),
    ],
)
def test_a_place_that_is_not_there_is_told_with_what_is(echelon: Caller, place: str, code: int, said: str) -> None:
    job_id = submitted(echelon, "gated")

    done = echelon("pause", f"{job_id[:12]}.{place}")

    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    good(echelon("cancel", job_id))


# --- jobs composed in a file


def composed(tmp_path: Path, *tasks: object) -> Path:
    file = tmp_path / "composed.json"
    file.write_text(json.dumps({"stages": [{"name": "Only", "tasks": tasks}]}))
    return file


def test_a_job_that_stands_in_a_file_is_run(echelon: Caller, tmp_path: Path) -> None:
    file = composed(tmp_path, {"task_class": "odd", "input": {"n": 1}}, {"task_class": "odd", "input": {"n": 3}})

    done = echelon("submit", "--inline", file, "--watch")

    assert done.code == ExitCode.GOOD, done.err
    assert facts(echelon, "show", done.out.strip())["type"] == "composed"
    assert echelon("logs", f"{done.out.strip()}.Only.1").out == "this is 3\n"


def test_what_is_wrong_with_the_job_of_a_file_is_said_with_its_place(echelon: Caller, tmp_path: Path) -> None:
    own, unknown = {"exec_command": "true"}, {"task_class": "od"}
    (tmp_path / "list.json").write_text("[]")

    refused = echelon("submit", "--inline", composed(tmp_path, own, unknown))

    assert refused.code == ExitCode.NOT_VALID
    assert "#/stages/0/tasks/0/exec_command" in refused.err and "--allow-inline-commands" in refused.err
    assert "#/stages/0/tasks/1/task_class" in refused.err and "did you mean" in refused.err
    assert echelon("submit", "--inline", "list.json").code == ExitCode.NOT_VALID
    assert echelon("submit").code == ExitCode.USAGE
    assert echelon("submit", "hello", "--inline", "list.json").code == ExitCode.USAGE


def test_commands_in_a_request_are_run_where_that_is_allowed_and_the_engine_says_so(tmp_path: Path) -> None:
    with Standalone(tmp_path, CATALOGUE, "--allow-inline-commands") as it:
        echelon = Caller(home=tmp_path, url=it.url)
        file = composed(tmp_path, {"exec_command": "echo", "exec_args": ["from", "a request"]})

        done = echelon("submit", "--inline", file, "--watch")

        assert done.code == ExitCode.GOOD, done.err
        assert echelon("logs", done.out.strip()).out.endswith("from a request\n")
        assert "any client that submits jobs can run any program" in it.log.read_text()
        it.terminate()


# --- help


@pytest.mark.parametrize("name", ["pause", "resume", "cancel", "kill", "retry", "skip", "add", "why", "submit"])
def test_a_help_shows_an_example(name: str) -> None:
    (entry,) = entry_points(group=GROUP, name=name)

    told = CliRunner().invoke(entry.load(), ["--help"])

    assert told.exit_code == ExitCode.GOOD
    assert re.search(rf"^ +echelon {name} \S", told.output, re.MULTILINE)
