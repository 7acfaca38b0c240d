"""`echelon retry`, when it matters what is kept, and when it cannot be."""

from __future__ import annotations

from collections import Counter

import pytest

from echelon.controller.client import Client
from echelon.shared.command import ExitCode, main_group
from tests.commands.calling import Caller
from tests.commands.test_client_commands import facts, submitted
from tests.commands.test_control import good, held
from tests.system.process import Standalone


def test_of_fifty_tasks_the_one_that_failed_runs_again_and_the_forty_nine_are_kept(echelon: Caller) -> None:
    job_id = submitted(echelon, "fifty")
    stuck = held(echelon, job_id, "BLOCKED_BY_FAILURE")
    before = facts(echelon, "tasks", job_id, "--stage", "0")

    told = good(echelon("retry", job_id))

    assert stuck["index"] == 17
    assert f"1 task of job {job_id[:8]} runs again" in told
    assert echelon("watch", job_id).code == ExitCode.GOOD
    after = facts(echelon, "tasks", job_id, "--stage", "0")
    changed = [
        (new["index"], new["attempt"], new["state"]) for old, new in zip(before, after, strict=True) if old != new
    ]
    assert changed == [(17, 2, "COMPLETED")]
    assert Counter(one["state"] for one in after) == {"COMPLETED": 51}
    logs = [echelon("logs", f"{job_id}.Work.17", "--attempt", str(attempt)).out for attempt in (1, 2)]
    assert logs == ["attempt 1 of 17\n", "attempt 2 of 17\n"]


def test_a_later_stage_is_refused_with_what_is_to_be_done_first(echelon: Caller) -> None:
    job_id = submitted(echelon, "crash")
    assert echelon("watch", job_id).code == ExitCode.JOB_FAILED

    stage, task = echelon("retry", f"{job_id}.1"), echelon("retry", f"{job_id}.Never.0")

    for done in (stage, task):
        assert done.code == ExitCode.CONFLICT
        assert "stage 0 (Fail) is FAILED and comes before it: retry or skip that first" in done.err
    good(echelon("skip", f"{job_id}.0"))
    assert echelon("watch", job_id).code == ExitCode.GOOD


def test_an_item_that_did_not_fit_can_only_be_skipped(echelon: Caller) -> None:
    job_id = submitted(echelon, "misfit")
    held(echelon, job_id, "BLOCKED_BY_FAILURE")

    single, whole = echelon("retry", f"{job_id}.0.1"), echelon("retry", job_id)

    assert (single.code, whole.code) == (ExitCode.CONFLICT, ExitCode.CONFLICT)
    assert "its item did not fit the task, so there is nothing to run: it can only be skipped" in single.err
    assert "the item of 1 task did not fit; skip it" in whole.err
    good(echelon("skip", f"{job_id}.0.1"))
    assert echelon("watch", job_id).code == ExitCode.GOOD


def test_what_was_skipped_is_left_and_said_to_be(echelon: Caller) -> None:
    job_id = submitted(echelon, "misfit")
    held(echelon, job_id, "BLOCKED_BY_FAILURE")
    good(echelon("pause", job_id))
    good(echelon("skip", f"{job_id}.0.1"))

    ranged = good(echelon("retry", f"{job_id}.0.0-1"))

    assert ranged.splitlines()[-1] == "  1 not: it was skipped: name it, ask for the state SKIPPED, or for all"
    good(echelon("cancel", job_id))


def test_failed_tasks_fail_a_completed_job_wherever_it_can_be_watched_strictly(echelon: Caller) -> None:
    ended = echelon("submit", "chained", "--watch", "--strict")
    job_id = ended.out.strip()

    again = echelon("retry", f"{job_id}.0.1", "--watch", "--strict")

    assert (ended.code, again.code) == (ExitCode.JOB_FAILED, ExitCode.JOB_FAILED)
    assert facts(echelon, "show", job_id)["state"] == "COMPLETED"
    for command in (("submit", "chained"), ("retry", job_id)):
        refused = echelon(*command, "--strict")
        assert refused.code == ExitCode.USAGE and "add --watch" in refused.err


def test_later_stages_that_have_run_are_told_of_and_run_again_when_that_is_asked_for(echelon: Caller) -> None:
    job_id = submitted(echelon, "chained")
    ended = echelon("watch", job_id)
    assert (ended.code, echelon("watch", job_id, "--strict").code) == (ExitCode.GOOD, ExitCode.JOB_FAILED)
    assert "is COMPLETED, 2 failed after" in ended.err
    assert "COMPLETED, 2 failed" in echelon("jobs").out and "COMPLETED, 1 failed" in echelon("show", job_id).out

    told = good(echelon("retry", f"{job_id}.0.1"))

    assert "2 later stages ran before this and were not run again; --downstream lets later stages run again" in told
    assert echelon("watch", job_id).code == ExitCode.GOOD
    assert echelon("retry", f"{job_id}.0", "--downstream", "--watch").code == ExitCode.GOOD
    assert [one["index"] for one in facts(echelon, "tasks", job_id, "--stage", "1")] == [None, 3, 4, 5]
    assert [one["index"] for one in facts(echelon, "tasks", job_id, "--stage", "1", "--run", "1")] == [0, 1, 2]
    assert echelon("logs", f"{job_id}.1.0").out == "this is 1\n"


@pytest.mark.parametrize("command", ["errors", "why"])
def test_the_retry_that_is_told_names_the_secrets_of_an_ended_job(
    standalone: Standalone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with Client(standalone.url) as client:
        job_id = client.submit_job("fetch", headers={"Authorization": "Bearer wrong"}, wait=60)["job_id"]
    monkeypatch.setenv("ECHELON_URL", standalone.url)

    main_group([command, job_id], standalone_mode=False)

    assert f"\n  echelon retry {job_id[:8]} -H 'Authorization: ...'\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "output"), [("", "logs {} --failed"), (".0", "logs {} --failed"), (".Fail.0", "logs {}.0.0")]
)
def test_why_says_what_a_person_can_do_about_a_failure(
    standalone: Standalone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str, output: str
) -> None:
    with Client(standalone.url) as client:
        short = client.submit_job("crash", wait=60)["job_id"][:8]
    monkeypatch.setenv("ECHELON_URL", standalone.url)

    main_group(["why", short + place], standalone_mode=False)
    failed = capsys.readouterr().err
    main_group(["why", f"{short}.Never"], standalone_mode=False)

    assert f"'echelon {output.format(short)}'" in failed
    assert failed.endswith(f"\n  echelon retry {short}{place.replace('Fail', '0')}\n")
    assert "retry" not in capsys.readouterr().err
