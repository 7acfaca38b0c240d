"""A task that forks without end, below a limit of processes: the engine goes on, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import Standalone, until
from tests.system.test_escapes import WITHOUT_CGROUPS, condition
from tests.worker.workbench import can_make_cgroups

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a cgroup with a limit"),
]

LIMIT = 150
CATALOGUE = """
tasks:
  bomb:
    exec_command: bash
    exec_args: [-c, 'bomb() { bomb | bomb & wait; }; bomb']
    timeout: 5s
    grace: 0.5s
  quick:
    exec_command: echo
    exec_args: [done]
jobs:
  bomb: {stages: [{name: Bomb, task_class: bomb}]}
  quick: {stages: [{name: Quick, task_class: quick}]}
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    """Return a cgroup in which only so many processes and threads can be."""
    for parent in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/pids")):
        cgroup = parent / f"echelon-test-{uuid.uuid4().hex}"
        try:
            cgroup.mkdir()
        except OSError:
            continue
        if (cgroup / "pids.max").exists():
            (cgroup / "pids.max").write_text(str(LIMIT))
            yield cgroup
            end(cgroup)
            return
        cgroup.rmdir()
    pytest.skip("no cgroup can limit processes here")


def inside(cgroup: Path) -> list[int]:
    """Return the processes of a cgroup."""
    return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]


def end(cgroup: Path) -> None:
    """End what a failed test has left, and remove the cgroup."""
    (cgroup / "pids.max").write_text("0")

    def emptied() -> bool:
        for pid in inside(cgroup):
            os.kill(pid, signal.SIGKILL)
        return not inside(cgroup)

    until(emptied, "nothing is left in the cgroup")
    cgroup.rmdir()


def refused(cgroup: Path) -> int:
    """Return how many forks the limit has refused."""
    return int((cgroup / "pids.events").read_text().split()[1])


@pytest.mark.parametrize("containment", ["cgroup", "subreaper"])
def test_the_engine_goes_on_and_ends_it(limited: Path, tmp_path: Path, containment: str) -> None:
    if containment == "cgroup" and not can_make_cgroups():
        pytest.skip("no cgroups of version 2 can be made here")
    engine = Standalone(tmp_path, CATALOGUE, "--slots", "2")
    enter = ["sh", "-c", f'echo $$ > {limited}/cgroup.procs; exec "$@"', "sh"]
    engine.prefix = enter if containment == "cgroup" else [*enter, *WITHOUT_CGROUPS]
    with engine:
        until(lambda: condition(engine) != "no worker", "the worker has sent a heartbeat")
        assert condition(engine) == f"{containment} (1 worker)"
        before = set(inside(limited))
        bomb = str(engine.client.submit_job("bomb")["job_id"])
        until(lambda: refused(limited) > 0, "the task has reached the limit")

        assert engine.ended(bomb) == "FAILED"
        assert "timeout of 5 s" in str(engine.client.get_job(bomb)["error"])
        until(lambda: set(inside(limited)) == before, "nothing is left of the task")
        quick = str(engine.client.submit_job("quick")["job_id"])
        assert engine.ended(quick) == "COMPLETED"
