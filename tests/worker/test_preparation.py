"""What a task gets: an environment built from nothing, and values that cannot turn into something else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.shared.messages import EnvironmentInput, JsonValue, Outcome
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume
from tests.worker.workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    made = Workbench(tmp_path, volume_check=0.0)
    yield made
    made.executor.close()


# --- environment ----------------------------------------------------------------------------------------------------


def test_the_environment_is_built_from_nothing(tmp_path: Path) -> None:
    worker = {"PATH": "/usr/bin:/bin", "HOME": "/home/w", "LANG": "C", "AMQP_URL": "amqp://u:p@h", "MIRROR": "m"}
    bench = Workbench(tmp_path, environ=worker)
    declared = (EnvironmentInput("mirror", "MIRROR"), EnvironmentInput("DEFAULTED", "UNSET", default="d"))
    env = {"LC_ALL": "C", "WHERE": "{job_id}/{n}", "ECHELON_JOB_ID": "forged", "ECHELON_INDEX": "{n}"}

    ref = bench.start("env", "-0", environment=declared, env=env, task_input={"n": 5}, index=3, attempt=2)
    bench.end(ref)

    found = dict(entry.split("=", 1) for entry in bench.log(index=3, attempt=2).decode().split("\0") if entry)
    folder = found["ECHELON_TASK_DIR"]
    assert found == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/w",
        "LANG": "C",
        "TMPDIR": f"{bench.temporary}/echelon-bench",
        "mirror": "m",
        "DEFAULTED": "d",
        "LC_ALL": "C",
        "WHERE": f"{bench.job_id}/5",
        "ECHELON_JOB_ID": bench.job_id,
        "ECHELON_TASK_ID": ref.task_id,
        "ECHELON_STAGE": "Stage",
        "ECHELON_INDEX": "3",
        "ECHELON_CLAIM": "2",
        "ECHELON_ATTEMPT": "2",
        "ECHELON_JOB_DIR": str(bench.work),
        "ECHELON_TASK_DIR": folder,
        "ECHELON_OUTPUT": f"{folder}/output",
        "ECHELON_SPAWN_FILE": f"{folder}/spawn.json",
    }
    assert os.stat(found["TMPDIR"]).st_mode & 0o777 == 0o700


def test_a_worker_with_an_empty_environment_still_gives_the_four(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, environ={})

    finished = bench.shell('[ -n "$PATH" ] && [ -n "$HOME" ] && [ -n "$LANG" ] && [ -d "$TMPDIR" ]')

    assert finished.outcome is Outcome.COMPLETED


def test_a_missing_variable_is_named(bench: Workbench) -> None:
    finished = bench.run("true", environment=(EnvironmentInput("mirror", "MIRROR"),))

    assert finished.outcome is Outcome.NOT_STARTED
    assert "the environment of this worker has no MIRROR, which the input 'mirror' comes from" in (finished.error or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link of another user")
def test_a_folder_for_temporary_files_that_is_another_users_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/echelon-bench").symlink_to("/tmp")
    os.lchown(tmp_path / "state/echelon-bench", 65534, 65534)

    with pytest.raises(Exception, match="is not a folder of this user"):
        Workbench(tmp_path)


# --- values ---------------------------------------------------------------------------------------------------------


def test_the_tasks_own_values_stand_over_the_jobs_and_both_over_the_environment(bench: Workbench) -> None:
    bench.run(
        "printf",
        "%s ",
        "{a}",
        "{b}",
        "{c}",
        "{n}",
        environment=(
            EnvironmentInput("a", "A", "env"),
            EnvironmentInput("b", "B", "env"),
            EnvironmentInput("c", "C", "env"),
        ),
        job_input={"b": "job", "c": "job"},
        task_input={"c": "task", "n": {"k": [1, True, None]}},
    )

    assert bench.log() == b'env job task {"k":[1,true,null]} '


def test_a_sealed_value_of_the_job_is_opened(bench: Workbench) -> None:
    bench.run("sh", "-c", "printf '%s' \"$1\" | wc -c", "sh", "{t}", sealed={"t": bench.sealer.seal_text("S3CR3T")})

    assert bench.log().split() == [b"6"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("-rf", "the value of 'x' begins with '-'"),
        ("--upload-pack=evil", "the value of 'x' begins with '-'"),
        ("a\0b", "the value of 'x' holds a NUL character"),
        ("\ud800", "the value of 'x' holds half of a surrogate pair"),
        ("x" * 200_000, "the value of 'x' holds more than"),
    ],
)
def test_a_value_that_must_not_reach_a_command_is_refused(bench: Workbench, value: str, says: str) -> None:
    finished = bench.run("echo", "{x}", job_input={"x": value})

    assert finished.outcome is Outcome.NOT_STARTED
    assert says in (finished.error or "")
    assert bench.log() == b""


@pytest.mark.parametrize("value", ["-5", "-1.5e3", -7, "", "a-b"])
def test_a_number_may_begin_with_a_dash(bench: Workbench, value: JsonValue) -> None:
    bench.run("printf", "[%s]", "{x}", job_input={"x": value})

    assert bench.log() == f"[{value}]".encode()


def test_an_input_may_allow_a_leading_dash(bench: Workbench) -> None:
    bench.run("echo", "{x}", job_input={"x": "-la"}, leading_dash=frozenset({"x"}))

    assert bench.log() == b"-la\n"


def test_a_secret_that_cannot_be_used_is_not_told(bench: Workbench) -> None:
    finished = bench.run("{t}", sealed={"t": bench.sealer.seal_text("S3CR3T")})

    assert finished.outcome is Outcome.NOT_STARTED
    assert "S3CR3T" not in (finished.error or "")


def test_a_tasks_own_secret_is_opened_with_the_seal_of_its_job(bench: Workbench) -> None:
    key = bench.sealer.new_seal()
    own = bench.sealer.open_seal(key).seal_text("S3CR3T")

    finished = bench.run(
        "sh", "-c", 'test "$1" = S3CR3T', "sh", "{t}", task_input={"t": own}, seal=key, secret=frozenset({"t"})
    )

    assert finished.outcome is Outcome.COMPLETED, finished.error


def test_a_tasks_own_secret_of_an_earlier_life_of_its_job_is_said_to_be_erased(bench: Workbench) -> None:
    own = bench.sealer.open_seal(bench.sealer.new_seal()).seal_text("S3CR3T")

    finished = bench.run("true", "{t}", task_input={"t": own}, seal=bench.sealer.new_seal(), secret=frozenset({"t"}))

    assert finished.outcome is Outcome.NOT_STARTED
    assert "'t' was erased" in str(finished.error) and "S3CR3T" not in str(finished.error)


def test_a_seal_of_another_volume_is_the_workers_trouble(bench: Workbench, tmp_path: Path) -> None:
    other = Sealer(Volume.create(tmp_path / "other"))

    finished = bench.run("true", seal=other.new_seal())

    assert finished.outcome is Outcome.WORKER_FAULT
    assert "another volume" in str(finished.error)


def test_a_secret_sealed_elsewhere_is_the_workers_trouble(bench: Workbench) -> None:
    assert bench.run("true", sealed={"t": "nonsense"}).outcome is Outcome.WORKER_FAULT
