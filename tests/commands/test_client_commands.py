"""The commands that talk to a running controller, as a person or a script calls them."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from echelon.controller.client import Client
from echelon.shared.command import ExitCode
from echelon.shared.ids import is_uuid
from tests.commands.calling import Caller
from tests.commands.catalogue import CATALOGUE
from tests.system.process import Standalone, until


def submitted(echelon: Caller, *arguments: str) -> str:
    done = echelon("submit", *arguments)
    assert done.code == 0, done.err
    return done.out.strip()


def facts(echelon: Caller, *arguments: str) -> Any:
    done = echelon(*arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def ended(echelon: Caller, *arguments: str) -> str:
    """Submit a job, see it end, return its id."""
    job_id = submitted(echelon, *arguments)
    echelon("watch", job_id)
    return job_id


# --- submit and watch


def test_submit_gives_the_id_to_a_script_and_the_words_to_a_person(echelon: Caller) -> None:
    done = echelon("submit", "hello", "-p", "name=Ada")

    assert done.code == 0
    assert is_uuid(done.out.strip())
    assert f"'echelon watch {done.out[:8]}' shows it" in done.err


def test_watching_a_job_ends_as_the_job_ends(echelon: Caller) -> None:
    good = echelon("submit", "hello", "--watch")
    bad = echelon("submit", "fail", "--watch")

    assert (good.code, is_uuid(good.out.strip())) == (ExitCode.GOOD, True)
    assert "stage 0 Greet: COMPLETED, 1 of 1 task" in good.err
    assert f"job {good.out.strip()} is COMPLETED" in good.err
    assert bad.code == ExitCode.JOB_FAILED
    assert "task 0.0 fail failed" in bad.err
    assert bad.err.count("the disk is on fire") == 1


def test_text_becomes_the_type_that_a_job_or_its_task_declares(echelon: Caller) -> None:
    job_id = ended(echelon, "add", "-p", "n=5", "-p", "on=yes")

    assert facts(echelon, "show", job_id)["input"] == {"n": 5, "on": True}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add"], ExitCode.NOT_VALID, "input n: is required  (-p n=...)"),
        (["add", "-p", "n=x"], ExitCode.NOT_VALID, "-p n: 'x' is not a whole number"),
        (["add", "-p", 'n:="x"'], ExitCode.NOT_VALID, "input n: must be an integer"),
        (["add", "-p", "n=1", "-p", "m=1"], ExitCode.NOT_VALID, "input m: is not an input"),
        (["fetch"], ExitCode.NOT_VALID, "(-H 'Authorization: ...')"),
        (["fetch", "-p", "token=x"], ExitCode.NOT_VALID, "(-H 'Authorization: ...')"),
        (["helo"], ExitCode.NOT_FOUND, "there is no job 'helo'; did you mean 'hello'"),
        (["hello", "-p", "name"], ExitCode.USAGE, "write name=value"),
        (["hello", "--url", "nonsense"], ExitCode.USAGE, "write a URL like"),
    ],
)
def test_a_mistake_says_what_is_wrong_and_how_to_write_it(
    echelon: Caller, arguments: list[str], code: int, said: str
) -> None:
    done = echelon("submit", *arguments)

    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_the_same_key_gives_the_same_job(echelon: Caller) -> None:
    first, second = (submitted(echelon, "hello", "--idempotency-key", "k1") for _ in range(2))
    other = echelon("submit", "hello", "-p", "name=x", "--idempotency-key", "k1")

    assert first == second
    assert other.code == ExitCode.CONFLICT


def test_a_header_input_reaches_the_task_and_is_shown_nowhere(echelon: Caller) -> None:
    job_id = submitted(echelon, "fetch", "-H", "authorization: Bearer right")

    assert echelon("watch", job_id).code == ExitCode.GOOD
    assert facts(echelon, "show", job_id)["input"] == {"token": "********"}


def test_ctrl_c_leaves_a_watched_job_running_and_says_so(echelon: Caller, standalone: Standalone) -> None:
    job_id = submitted(echelon, "hold")
    watching = echelon.start("watch", job_id)
    assert watching.stderr is not None and "RUNNING" in watching.stderr.readline()

    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=60)

    assert (watching.returncode, out) == (ExitCode.INTERRUPTED, "")
    assert f"job {job_id} goes on" in err
    assert standalone.state(job_id) == "RUNNING"
    assert echelon("cancel", job_id).code == ExitCode.GOOD


# --- looking


def test_a_job_is_shown_with_all_its_stages(echelon: Caller) -> None:
    job_id = ended(echelon, "fan")

    done = echelon("show", job_id[:8])

    assert done.code == 0
    assert re.search(r"^job +" + job_id, done.out, re.MULTILINE)
    assert re.search(r"0 +Fan +list > odd +COMPLETED, 1 failed +3/3 ", done.out)
    assert "echelon tasks" in done.err


def test_tasks_are_listed_and_filtered(echelon: Caller) -> None:
    job_id = ended(echelon, "fan")

    everything, bad = echelon("tasks", job_id), facts(echelon, "tasks", job_id, "--state", "failed")

    assert [line.split()[0] for line in everything.out.splitlines()] == ["TASK", "0.spawn", "0.0", "0.1", "0.2"]
    assert [(task["index"], task["exit_code"]) for task in bad] == [(1, 1)]


def test_tasks_are_sorted_before_the_first_ones_are_taken(echelon: Caller) -> None:
    job_id = ended(echelon, "weights")

    def order(*options: str) -> list[int | None]:
        return [task["index"] for task in facts(echelon, "tasks", job_id, "--stage", "0", *options)]

    by_time = facts(echelon, "tasks", job_id, "--stage", "0", "--sort", "took", "--limit", "3")
    assert [task["index"] for task in by_time] == [0, 1, 2]
    last = max(facts(echelon, "tasks", job_id, "--stage", "0"), key=lambda task: task["ended_at"])
    assert order("--sort", "ended", "--limit", "1") == [last["index"]]
    assert order("--sort", "place") == order() == [None, 0, 1, 2]
    odd = ended(echelon, "fan")
    assert [task["state"] for task in facts(echelon, "tasks", odd, "--sort", "state", "--limit", "2")] == [
        "FAILED", "COMPLETED",
    ]  # fmt: skip


def test_results_are_shown_of_tasks_and_of_a_job(echelon: Caller) -> None:
    job_id = ended(echelon, "weights")

    head, *rows = echelon("tasks", job_id).out.splitlines()

    assert head.endswith("RESULT")
    assert [re.split("  +", row)[-1] for row in rows[1:]] == [*(f"weight of {n}" for n in (1, 2, 3)), "all weigh 6"]
    assert re.search("^result +all weigh 6$", echelon("show", job_id).out, re.MULTILINE)


def test_jobs_are_listed_newest_first_and_filtered(echelon: Caller) -> None:
    older, newer = ended(echelon, "hello"), ended(echelon, "fail")

    listed = [job["job_id"] for job in facts(echelon, "jobs")]
    bad = [job["state"] for job in facts(echelon, "jobs", "--state", "failed", "--type", "fail", "--limit", "1")]

    assert listed.index(newer) < listed.index(older)
    assert bad == ["FAILED"]
    assert newer in echelon("jobs").out


def test_logs_are_those_of_a_job_or_of_a_task_by_its_place(echelon: Caller) -> None:
    job_id = ended(echelon, "fan")
    task_id = facts(echelon, "tasks", job_id, "--stage", "0")[2]["task_id"]

    assert echelon("logs", f"{job_id[:12]}.0.1").out == "this is 2\n"
    assert echelon("logs", task_id).out == "this is 2\n"
    assert echelon("logs", task_id, "--stream", "stderr").out == ""
    assert "this is 3\n" in echelon("logs", job_id, "-f").out
    assert echelon("logs", f"{job_id}.0").code == ExitCode.USAGE
    assert echelon("logs", f"{job_id}.0.9").code == ExitCode.NOT_FOUND
    assert echelon("logs", job_id, "--attempt", "1").code == ExitCode.USAGE


def test_artefacts_are_listed_and_fetched(echelon: Caller, tmp_path: Path) -> None:
    job_id = ended(echelon, "hello", "-p", "name=Ada")

    listed, fetched = facts(echelon, "artefacts", job_id), echelon("artefacts", job_id, "-o", "there")

    assert [(one["path"], one["size"]) for one in listed] == [("out/hello.txt", 12)]
    assert fetched.out == "there/out/hello.txt\n"
    assert (tmp_path / "there" / "out" / "hello.txt").read_text() == "Hello, Ada!\n"
    assert "1 file, 12 B in there" in fetched.err


def test_workers_queues_and_health_are_tables_and_json(echelon: Caller) -> None:
    assert [one["state"] for one in facts(echelon, "workers")] == ["UP"]
    assert isinstance(facts(echelon, "queues"), list)
    assert facts(echelon, "health")["ready"] is True
    assert "UP" in echelon("workers").out
    assert re.search(r"store +ok", echelon("health").out)


def test_workers_tells_which_attempts_run_where(echelon: Caller) -> None:
    job_id = submitted(echelon, "hold")
    until(lambda: any(one["attempts"] for one in facts(echelon, "workers")), "it runs")

    told = echelon("workers").out

    assert re.search(rf"^\S+ +{job_id} +0\.0 +1 +\S+", told, re.MULTILINE)
    echelon("cancel", job_id)


# --- ending


def test_a_cancelled_job_stays_cancelled_and_may_be_retried(echelon: Caller) -> None:
    job_id = submitted(echelon, "hold")

    assert echelon("cancel", job_id[:10]).code == ExitCode.GOOD
    assert echelon("cancel", job_id).code == ExitCode.GOOD
    assert echelon("watch", job_id).code == ExitCode.CANCELLED
    assert echelon("retry", job_id).code == ExitCode.GOOD
    assert echelon("retry", job_id).code == ExitCode.CONFLICT
    assert echelon("cancel", job_id).code == ExitCode.GOOD


def test_a_retry_is_given_the_erased_secrets_again(echelon: Caller) -> None:
    job_id = submitted(echelon, "fetch", "-H", "Authorization: Bearer wrong")
    assert echelon("watch", job_id).code == ExitCode.JOB_FAILED

    without = echelon("retry", job_id)
    again = echelon("retry", job_id, "-H", "Authorization: Bearer right", "--watch")

    assert without.code == ExitCode.NOT_VALID
    assert "-H 'Authorization: ...'" in without.err
    assert again.code == ExitCode.GOOD


def test_what_a_jobs_state_forbids_is_a_conflict(echelon: Caller) -> None:
    done, open_one = ended(echelon, "hello"), submitted(echelon, "hold")

    assert echelon("cancel", done).code == ExitCode.CONFLICT
    assert echelon("retry", done).code == ExitCode.CONFLICT
    assert echelon("delete", open_one).code == ExitCode.CONFLICT
    echelon("cancel", open_one)


def test_a_deleted_job_is_gone(echelon: Caller) -> None:
    job_id = ended(echelon, "hello")

    assert echelon("delete", job_id).code == ExitCode.GOOD
    assert echelon("show", job_id).code == ExitCode.NOT_FOUND


# --- ids


def test_a_prefix_of_more_than_one_id_is_answered_with_a_list(echelon: Caller, standalone: Standalone) -> None:
    known = [standalone.client.submit_job("hello")["job_id"] for _ in range(17)]
    first = [job_id[0] for job_id in known]
    letter = next(letter for letter in first if first.count(letter) > 1)

    done = echelon("show", letter)

    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert len(re.findall(rf"^  {letter}[0-9a-f-]{{35}}$", done.err, re.MULTILINE)) > 1


@pytest.mark.parametrize(
    "command",
    [
        "show", "tasks", "watch", "logs", "artefacts", "delete", "why", "add",
        "pause", "resume", "cancel", "kill", "retry", "skip",
    ],
)  # fmt: skip
def test_an_unknown_id_is_not_found_and_nonsense_is_wrong_usage(echelon: Caller, command: str) -> None:
    unknown, nonsense = echelon(command, "00000000-0000-4000-8000-000000000000"), echelon(command, "../etc")

    assert (unknown.code, unknown.out) == (ExitCode.NOT_FOUND, "")
    assert (nonsense.code, nonsense.out) == (ExitCode.USAGE, "")


# --- without a controller


@pytest.mark.parametrize("command", ["jobs", "show a", "submit hello", "health", "workers", "logs a", "watch a"])
def test_a_controller_that_is_not_there_is_said_so(alone: Caller, command: str) -> None:
    done = alone(*command.split())

    assert (done.code, done.out) == (ExitCode.UNREACHABLE, "")
    assert "no controller answers at http://127.0.0.1:9" in done.err
    assert "--url" in done.err


def test_a_token_is_asked_for_by_its_flags(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("S3CR3T\n")
    it = Standalone(tmp_path, CATALOGUE, "--token-file", str(token))
    it.client = Client(it.url, token="S3CR3T")
    with it:
        echelon = Caller(home=tmp_path, url=it.url)

        with_it, without = echelon("jobs", "--token-file", "token"), echelon("jobs")

        assert with_it.code == ExitCode.GOOD
        assert without.code == ExitCode.ENGINE
        assert "--token-file" in without.err
        it.terminate()


def test_prune_tells_what_would_go_and_then_removes_it(echelon: Caller) -> None:
    job_id = ended(echelon, "hello")

    would = facts(echelon, "prune", "--older-than", "0s", "--type", "hello", "--dry-run")
    assert would["jobs"] >= 1 and would["dry_run"] is True
    assert echelon("show", job_id).code == 0

    assert echelon("prune", "--older-than", "1d").err.startswith("0 jobs removed")
    assert echelon("prune", "--older-than", "0s", "--type", "hello").code == 0
    assert echelon("show", job_id).code != 0
    assert echelon("prune").code == ExitCode.USAGE
