"""What knows a secret cannot be read by a task of the same user: every process of the engine, from its beginning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from echelon.controller.client import Client
from tests.system.cluster import ROOT, Cluster, Shape
from tests.system.process import Standalone, until

pytestmark = pytest.mark.slow

PEEPER = Path(__file__).with_name("peeping.py")
#: Leaves root its number and takes all of its powers: for the kernel an ordinary user, whose files these are.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
CANARY = "S3CR3T-5d1c4e768f99"
CATALOGUE = f"""
tasks:
  peep:
    input: {{pids: {{source: parameter, default: ""}}}}
    exec_command: sh
    exec_args: [-c, 'exec "$0" "$1" ${{2:-$PPID}}', {sys.executable}, {PEEPER}, "{{pids}}"]
jobs:
  peep:
    input: {{pids: {{source: parameter, default: ""}}}}
    stages: [{{name: Peep, task_class: peep}}]
"""
#: What of a process every user may see anyway.
NOTHING: list[str] = []


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def peep(client: Client, pids: list[int]) -> Any:
    """Let a task try to read processes, and return what it could."""
    job_id = client.submit_job("peep", input={"pids": " ".join(map(str, pids))})["job_id"]
    until(lambda: client.get_job(job_id)["ended_at"] is not None, "the task has tried")
    said = "".join(client.read_log(job_id))
    assert client.get_job(job_id)["state"] == "COMPLETED", said
    return json.loads(said.partition("<==\n")[2])


def look_at(pid: int) -> Any:
    """Try to read a process from outside, as the same user."""
    done = subprocess.run([*POWERLESS, sys.executable, str(PEEPER), str(pid)], capture_output=True, check=True)
    return json.loads(done.stdout)["engine"][str(pid)]


def check_found(found: Any, pids: list[int]) -> None:
    """Check that a task could read none of these processes, and has nothing of their secrets itself."""
    assert found["engine"] == {str(pid): NOTHING for pid in pids}
    assert "environ" in found["child"] and found["dumpable"] == 1, "tasks themselves stay as readable as ever"
    assert CANARY not in json.dumps(found)


def test_a_task_can_read_no_process_of_a_standalone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHELON_TOKEN", CANARY)
    engine = Standalone(tmp_path, CATALOGUE)
    engine.prefix, engine.client = list(POWERLESS), Client(engine.url, token=CANARY)
    with engine:
        pids = family(engine.pid)
        assert len(pids) == 2, "the process that watches, and the one that serves"

        check_found(peep(engine.client, pids), pids)


@pytest.mark.server
def test_a_task_can_read_no_process_of_controllers_and_workers(tmp_path: Path) -> None:
    shape = Shape(controllers=1, workers=1, datastore="sqlite", prefix=POWERLESS)
    with Cluster(tmp_path, CATALOGUE, shape) as cluster:
        pids = [pid for program in cluster.programs for pid in family(program.pid)]
        assert len(pids) == 3

        check_found(peep(cluster.client(), pids), pids)


def test_a_task_cannot_read_a_run(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    command = ["run", str(catalogue), "peep", "--volume", str(tmp_path / "volume")]
    done = subprocess.run(
        [*POWERLESS, sys.executable, "-m", "echelon.shared.command", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT), "ECHELON_TOKEN": CANARY},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    [said] = tmp_path.glob("volume/jobs/*/attempts/0/*.stdout")
    found = json.loads(said.read_text())
    check_found(found, [int(pid) for pid in found["engine"]])


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("standalone", "TOKEN"), ("controller", "BROKER"), ("worker", "BROKER"), ("migrate", "DATASTORE"),
        ("jobs", "TOKEN"),
    ],
)
def test_a_process_cannot_be_read_before_it_knows_its_secret(tmp_path: Path, command: str, variable: str) -> None:
    secret = tmp_path / "secret"
    os.mkfifo(secret)
    environ = os.environ | {"PYTHONPATH": str(ROOT), f"ECHELON_{variable}_FILE": str(secret)}
    process = subprocess.Popen(
        [*POWERLESS, sys.executable, "-m", "echelon.shared.command", command],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # This waits until the process opens the file.
        with secret.open("wb"):
            assert look_at(process.pid) == NOTHING
    finally:
        process.kill()
        process.wait()


def test_the_first_process_does_not_start_the_program_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHELON_TOKEN", CANARY)
    engine = Standalone(tmp_path, CATALOGUE)
    engine.client = Client(engine.url, token=CANARY)
    with engine:
        before = family(engine.pid)
        os.kill(engine.pid, signal.SIGUSR2)
        # gunicorn handles its signals in their order.
        os.kill(before[1], signal.SIGKILL)
        until(lambda: before[1] not in family(engine.pid) and len(family(engine.pid)) > 1, "the first has noticed both")

        assert len(family(engine.pid)) == 2
