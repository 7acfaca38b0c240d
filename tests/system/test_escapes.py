"""A process that hides from its task ends with it: in a standalone, by its end, a cancel, a kill of the engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.process import Standalone, until
from tests.worker.workbench import can_make_cgroups

pytestmark = pytest.mark.slow

CATALOGUE = """
tasks:
  escape:
    input: {then: {source: parameter}}
    exec_command: sh
    exec_args: [-c, '(env -i setsid sh hide &); until [ -s pid ]; do :; done; $1', sh, "{then}"]
    grace: 0.5s
jobs:
  escape:
    input: {then: {source: parameter}}
    stages: [{name: Escape, task_class: escape}]
"""
#: Stands before a command: without a mounted tree no cgroup can be made.
_HIDE = 'for path in $(sed -n "s/^cgroup2 \\([^ ]*\\) .*/\\1/p" /proc/self/mounts); do umount -l "$path"; done'
WITHOUT_CGROUPS = ("unshare", "--mount", "sh", "-c", f'{_HIDE}; exec "$@"', "sh")


@pytest.fixture(params=["cgroup", "subreaper"])
def containment(request: pytest.FixtureRequest) -> str:
    """Return how the engine finds the processes that tasks leave."""
    return str(request.param)


@pytest.fixture
def engine(tmp_path: Path, containment: str, monkeypatch: pytest.MonkeyPatch) -> Standalone:
    monkeypatch.setenv("ECHELON_DRAIN_TIMEOUT", "0")
    engine = Standalone(tmp_path, CATALOGUE, "--slots", "2")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "hide").write_text("echo $$ > pid\nexec sleep 3212\n")
    if containment == "cgroup":
        if not can_make_cgroups():
            pytest.skip("this user cannot make cgroups of version 2 here")
    elif os.geteuid() == 0:
        engine.prefix = [*WITHOUT_CGROUPS]
    return engine


def escaped(engine: Standalone, then: str) -> tuple[str, int]:
    """Submit a job and return its id and the process that has left its task."""
    job_id = str(engine.client.submit_job("escape", input={"then": then})["job_id"])
    file = engine.volume / "jobs" / job_id / "work" / "pid"
    until(lambda: file.exists() and file.read_text().endswith("\n"), "the process has left its task")
    return job_id, int(file.read_text())


def condition(engine: Standalone) -> str:
    """Return how the workers find the processes that tasks leave."""
    return next(part["detail"] for part in engine.client.get_health()["parts"] if part["name"] == "processes")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_is_ended_with_its_task_by_a_cancel_and_with_the_engine(engine: Standalone, containment: str) -> None:
    with engine:
        until(lambda: condition(engine) != "no worker", "the worker has sent a heartbeat")
        assert condition(engine) == f"{containment} (1 worker)"
        assert [worker["containment"] for worker in engine.client.list_workers()] == [containment]

        job_id, pid = escaped(engine, "true")
        assert engine.ended(job_id) == "COMPLETED"
        assert gone(pid)

        job_id, pid = escaped(engine, "sleep 300")
        engine.client.cancel_job(job_id)
        until(lambda: gone(pid), "the process of a cancelled task is ended")

        _, pid = escaped(engine, "sleep 300")
        engine.terminate()
        assert gone(pid)


@pytest.mark.parametrize("containment", ["cgroup"], indirect=True)
def test_the_next_life_of_a_killed_engine_ends_it_before_it_works(engine: Standalone) -> None:
    with engine:
        _, pid = escaped(engine, "sleep 300")
        engine.kill()
        assert not gone(pid)
        engine.start()
        assert gone(pid)
