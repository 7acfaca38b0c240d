"""Standalone as users run it: killed, restarted, cancelled; nothing accepted is lost and nothing counts twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.process import PATIENCE, Standalone, until

pytestmark = pytest.mark.slow

CATALOGUE = """
tasks:
  list:
    input: {count: {source: parameter, type: integer}}
    exec_command: python3
    exec_args: [-c, "import json,os,sys; json.dump([{'n': n} for n in range(int(sys.argv[1]))],
      open(os.environ['ECHELON_SPAWN_FILE'], 'w'))", "{count}"]
  mark:
    input: {n: {source: parameter, type: integer}}
    exec_command: sh
    exec_args: [-c, 'echo "$1 $ECHELON_ATTEMPT" >> marks', sh, "{n}"]
  wait:
    exec_command: sh
    exec_args: [-c, 'echo $$ > pid; echo started; while [ ! -e go ]; do sleep 0.05; done; echo gone']
  stubborn:
    exec_command: sh
    exec_args: [-c, 'trap "" TERM; setsid sleep 1000 & echo $! > daemon; echo $$ > pid; sleep 1000; sleep 1000']
    grace: 1s
jobs:
  fan:
    input: {count: {source: parameter, type: integer}}
    stages: [{name: Mark, spawn_task: list, task_class: mark}]
  wait: {stages: [{name: Wait, task_class: wait}]}
  stubborn: {stages: [{name: Stubborn, task_class: stubborn}]}
"""


@pytest.fixture
def engine(tmp_path: Path) -> Standalone:
    return Standalone(tmp_path, CATALOGUE)


def work(engine: Standalone, job_id: str) -> Path:
    return engine.volume / "jobs" / job_id / "work"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_fan_out_that_is_killed_again_and_again_ends_with_every_task_counted_once(engine: Standalone) -> None:
    with engine:
        job_id = engine.client.submit_job("fan", input={"count": 1500})["job_id"]
        for so_many in (20, 300, 700):
            marks = work(engine, job_id) / "marks"
            until(
                lambda so_many=so_many, marks=marks: marks.exists() and marks.read_text().count("\n") > so_many,
                "it runs",
            )  # type: ignore[misc]
            engine.kill()
            engine.start()
        assert engine.ended(job_id) == "COMPLETED"
        stage = engine.client.get_job(job_id)["stages"][0]
        lines = (work(engine, job_id) / "marks").read_text().split("\n")[:-1]

    assert stage["counts"]["COMPLETED"] == stage["total"] == 1500
    assert {int(line.split()[0]) for line in lines} == set(range(1500))
    assert len(set(lines)) == len(lines), "an attempt was started twice"


def test_a_task_of_a_dead_life_is_ended_and_runs_again_within_seconds(engine: Standalone) -> None:
    with engine:
        job_id = engine.client.submit_job("wait")["job_id"]
        pid = work(engine, job_id) / "pid"
        until(lambda: pid.exists() and bool(pid.read_text()), "the task runs")
        first = int(pid.read_text())
        engine.kill()
        assert alive(first)
        engine.start()
        until(lambda: int(pid.read_text() or first) != first, "it runs again", patience=10.0)
        assert not alive(first)
        (work(engine, job_id) / "go").touch()
        assert engine.ended(job_id) == "COMPLETED"
        (task,) = engine.client.list_tasks(job_id)
    assert task["attempt"] == 2


def test_when_only_its_first_process_is_killed_the_next_start_need_not_wait_for_running_tasks(
    engine: Standalone,
) -> None:
    with engine:
        job_id = engine.client.submit_job("wait")["job_id"]
        pid = work(engine, job_id) / "pid"
        until(lambda: pid.exists() and bool(pid.read_text()), "the task runs")
        first = int(pid.read_text())
        engine.kill_first()
        engine.start()
        until(lambda: int(pid.read_text() or first) != first, "it runs again", patience=15.0)
        assert not alive(first)
        (work(engine, job_id) / "go").touch()
        assert engine.ended(job_id) == "COMPLETED"
        (task,) = engine.client.list_tasks(job_id)
    assert task["attempt"] == 2


def test_cancel_ends_the_whole_tree_of_a_task_that_ignores_it(engine: Standalone) -> None:
    with engine:
        job_id = engine.client.submit_job("stubborn")["job_id"]
        files = [work(engine, job_id) / name for name in ("pid", "daemon")]
        until(lambda: all(file.exists() and file.read_text().strip() for file in files), "the task runs")
        pids = [int(file.read_text()) for file in files]
        assert engine.client.cancel_job(job_id)["state"] == "CANCELLED"
        until(lambda: not any(alive(pid) for pid in pids), "its processes are gone", patience=15.0)


def test_a_polite_end_lets_running_tasks_finish_and_leaves_nothing_behind(engine: Standalone) -> None:
    with engine:
        job_id = engine.client.submit_job("wait")["job_id"]
        pid = work(engine, job_id) / "pid"
        until(lambda: pid.exists() and bool(pid.read_text()), "the task runs")
        os.kill(engine.pid, signal.SIGTERM)
        (work(engine, job_id) / "go").touch()
        assert engine.terminate() == 0
        assert not alive(int(pid.read_text()))
        engine.start()
        assert engine.ended(job_id) == "COMPLETED"
        (task,) = engine.client.list_tasks(job_id)
    assert task["attempt"] == 1


def test_one_idempotency_key_is_one_job_across_a_crash(engine: Standalone) -> None:
    with engine:
        first = engine.client.submit_job("fan", input={"count": 0}, idempotency_key="once")["job_id"]
        engine.kill()
        engine.start()
        assert engine.client.submit_job("fan", input={"count": 0}, idempotency_key="once")["job_id"] == first


def test_a_log_is_read_while_its_task_runs_and_followed_to_its_end(engine: Standalone) -> None:
    with engine:
        job_id = engine.client.submit_job("wait")["job_id"]
        until(lambda: "started" in "".join(engine.client.read_log(job_id)), "the log shows what the task has said")
        heard = []
        for piece in engine.client.read_log(job_id, follow=True):
            heard.append(piece)
            (work(engine, job_id) / "go").touch()
    assert "gone" in "".join(heard)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_job_is_on_the_disk_before_it_is_answered(engine: Standalone, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    engine.prefix = ["strace", "-f", "-e", "trace=fdatasync,fsync,sendto,write", "-s", "40", "-o", str(trace)]
    with engine:
        before = len(trace.read_text().splitlines())
        engine.client.submit_job("fan", input={"count": 0})
        calls = trace.read_text().splitlines()[before:]
    answer = next(place for place, line in enumerate(calls) if "HTTP/1.1 201" in line)
    assert any("sync(" in line for line in calls[:answer]), "201 was sent before anything was synced"


def test_the_command_tells_when_its_port_is_taken(engine: Standalone) -> None:
    with engine:
        other = Standalone(engine.folder / "volume" / "..", CATALOGUE)
        command = [
            *_command(),
            "standalone",
            "--catalogue",
            str(engine.catalogue),
            "--listen",
            f"127.0.0.1:{engine.port}",
        ]
        done = subprocess.run(
            [*command, "--volume", str(other.folder / "other")], capture_output=True, text=True, timeout=PATIENCE
        )
    assert done.returncode != 0
    assert str(engine.port) in done.stderr and "Traceback" not in done.stderr


def _command() -> list[str]:
    import sys

    return [sys.executable, "-m", "echelon.shared.command"]
