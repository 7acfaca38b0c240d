"""A worker's name is held by one process at a time, and the next holder knows who died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from echelon.shared.errors import Conflict, Unavailable
from echelon.worker.liveness.incarnation import Incarnation


def test_the_first_life_has_nobody_to_bury(tmp_path: Path) -> None:
    assert Incarnation(tmp_path / "made", "w").earlier == ()


def test_two_workers_of_one_name_do_not_live_at_the_same_time(tmp_path: Path) -> None:
    life = Incarnation(tmp_path, "w")

    with pytest.raises(Conflict, match="'w' runs on this host already"):
        Incarnation(tmp_path, "w")

    assert Incarnation(tmp_path, "other").id != life.id


def test_a_life_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    life = Incarnation(tmp_path, "w")
    later: list[Incarnation] = []
    waiting = threading.Thread(target=lambda: later.append(Incarnation(tmp_path, "w", patience=10.0)))

    waiting.start()
    life.release_name(deregistered=False)
    waiting.join(10.0)

    assert [one.earlier for one in later] == [(life.id,)]


def test_a_life_that_was_killed_is_found_by_the_next(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from echelon.worker.liveness.incarnation import Incarnation
life = Incarnation(Path({str(tmp_path)!r}), "w")
print(life.id, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10.0)

    assert Incarnation(tmp_path, "w").earlier == (first,)


def test_lives_pile_up_until_they_are_buried(tmp_path: Path) -> None:
    lives = []
    for _ in range(3):
        life = Incarnation(tmp_path, "w")
        lives.append(life.id)
        life.release_name(deregistered=False)

    last = Incarnation(tmp_path, "w")
    assert last.earlier == tuple(lives)
    last.forget_earlier()
    last.release_name(deregistered=False)

    assert Incarnation(tmp_path, "w").earlier == (last.id,)


def test_after_a_goodbye_there_is_nobody_to_bury(tmp_path: Path) -> None:
    Incarnation(tmp_path, "w").release_name(deregistered=True)

    assert Incarnation(tmp_path, "w").earlier == ()


def test_a_damaged_file_is_no_reason_not_to_live(tmp_path: Path) -> None:
    (tmp_path / "worker-w.lock").write_bytes(b"\xff\x00 not an id\n" * 100)

    assert Incarnation(tmp_path, "w").earlier == ()


@pytest.mark.parametrize("name", ["", "../w", "a/b", "-w", "w" * 200, "w\n"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Conflict, match="cannot be a worker's name"):
        Incarnation(tmp_path, name)


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable, match="file"):
        Incarnation(tmp_path / "file" / "state", "w")


def test_the_time_of_its_file_tells_when_the_broker_last_heard_it(tmp_path: Path) -> None:
    life = Incarnation(tmp_path, "w")
    file = tmp_path / "worker-w.lock"
    before = file.stat().st_mtime

    life.record_heartbeat()

    assert before == 0
    assert abs(file.stat().st_mtime - time.time()) < 60


def test_a_life_that_has_ended_may_still_be_heard(tmp_path: Path) -> None:
    life = Incarnation(tmp_path, "w")
    life.release_name(deregistered=True)

    life.record_heartbeat()
