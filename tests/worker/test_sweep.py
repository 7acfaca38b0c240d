"""What an earlier life of a worker left running is ended before the next one begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.worker.environment import temporary_folder
from echelon.worker.runtimes import proc
from echelon.worker.sweep import kill_leftovers
from tests.worker.workbench import PATIENCE, alive

LIFE = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.worker.workbench import Workbench
bench = Workbench(Path(sys.argv[1]), worker="w1")
script = "echo $$ > one; touch $TMPDIR/left; mkdir $TMPDIR/dir; setsid sleep 300 & echo $! > two; sleep 300"
bench.start("sh", "-c", script)
bench.until(lambda: (bench.work / "two").exists() and (bench.work / "two").read_text().endswith("\\n"))
print((bench.work / "one").read_text(), (bench.work / "two").read_text(), flush=True)
bench.until(lambda: False)
"""


@pytest.fixture
def left(tmp_path: Path) -> Iterator[list[int]]:
    """Return the processes that a killed worker has left."""
    life = subprocess.Popen(
        [sys.executable, "-c", LIFE, str(tmp_path), str(Path(__file__).parents[2])], stdout=subprocess.PIPE, text=True
    )
    assert life.stdout is not None
    pids = [int(pid) for pid in (life.stdout.readline() + life.stdout.readline()).split()]
    life.kill()
    life.wait()
    life.stdout.close()
    assert all(alive(pid) for pid in pids)
    yield pids
    for pid in pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_everything_that_carries_the_workers_mark_is_ended(tmp_path: Path, left: list[int]) -> None:
    found = kill_leftovers("w1", parent=str(tmp_path / "state"))

    # The shell, its sleep, and the daemon.
    assert found == 3
    assert not any(alive(pid) for pid in left)
    assert os.listdir(tmp_path / "state/echelon-w1") == []


def test_other_workers_and_places_are_let_be(tmp_path: Path, left: list[int]) -> None:
    assert kill_leftovers("w2", parent=str(tmp_path / "state")) == 0
    assert kill_leftovers("w1", parent=str(tmp_path / "other")) == 0
    assert all(alive(pid) for pid in left)


def test_an_engine_that_runs_as_a_task_does_not_end_itself(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from echelon.worker.sweep import kill_leftovers;"
        " print(kill_leftovers('w1', parent=sys.argv[1]))"
    )
    environ = {
        "TMPDIR": temporary_folder("w1", str(tmp_path)),
        "ECHELON_TASK_ID": "7c1a1c0e-6a53-4f7e-9d4e-0d8a3f3b1c11",
        "ECHELON_ATTEMPT": "1",
    }

    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            '"$@"; exit $?',
            "sh",
            sys.executable,
            "-c",
            script,
            str(tmp_path),
            str(Path(__file__).parents[2]),
        ],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_number_that_has_changed_hands_is_not_signalled(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "300"])
    try:
        status = proc.status_of(process.pid)
        assert status is not None

        def is_an_older_one(pid: int) -> bool:
            now = proc.status_of(pid)
            return now is not None and now.started == status.started - 1

        assert not proc.signal_if(process.pid, signal.SIGKILL, is_an_older_one)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert not proc.signal_if(process.pid, signal.SIGKILL, lambda _: True)


def test_a_sweep_with_nothing_to_do_is_quick_and_leaves_no_folder(tmp_path: Path) -> None:
    begun = time.monotonic()

    assert kill_leftovers("w1", parent=str(tmp_path)) == 0

    assert time.monotonic() - begun < PATIENCE / 4
    assert os.listdir(tmp_path) == []
