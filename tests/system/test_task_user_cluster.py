"""A worker of a cluster whose tasks run as another user: they reach only what is theirs, and leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.controller.client import Client
from echelon.shared.errors import EchelonError
from tests.system.cluster import Cluster, Shape
from tests.system.process import until
from tests.system.test_escapes import WITHOUT_CGROUPS, gone
from tests.system.test_peeping import CANARY, NOTHING, PEEPER, family
from tests.worker.workbench import can_make_cgroups

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start tasks as another user"),
]

CATALOGUE = """
tasks:
  hold:
    exec_command: sh
    exec_args: [-c, 'echo secret | tee artefact; echo $$ > pid; until [ -e go ]; do sleep 0.05; done']
  try:
    input: {script: {source: parameter}}
    exec_command: sh
    exec_args: [-c, 'eval "$0"', "{script}"]
  leave:
    exec_command: sh
    exec_args: [-c, '[ $ECHELON_ATTEMPT = 1 ] || exit 0;
      (setsid sh leave marked &); (env -i setsid sh leave bare &); until [ -s marked ] && [ -s bare ]; do :; done;
      touch ready; sleep 300']
jobs:
  hold: {stages: [{name: Hold, task_class: hold}]}
  try:
    input: {script: {source: parameter}}
    stages: [{name: Try, task_class: try}]
  leave: {stages: [{name: Leave, task_class: leave}]}
"""


class Engine:
    """A controller with a token and a worker with a user for tasks; each lives again when a test has changed it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        [self.controller], [self.worker] = cluster.controllers, cluster.workers
        self.controller.environ["ECHELON_TOKEN"] = CANARY
        self.worker.environ["ECHELON_TASK_USER"] = "nobody"
        self.client = Client(cluster.urls[0], token=CANARY)
        for program in cluster.programs:
            program.kill()
            program.start()
        until(lambda: self.containment is not None, "the worker is up")

    @property
    def containment(self) -> str | None:
        """Return how the worker finds what tasks leave; None before it is up."""
        try:
            found = [one for one in self.client.list_workers() if one["state"] == "UP"]
        except EchelonError:
            return None
        return found[0]["containment"] if len(found) == 1 else None

    def submit(self, kind: str, **values: str) -> tuple[str, Path]:
        """Submit a job and return its id and its workspace."""
        job_id = str(self.client.submit_job(kind, input=values)["job_id"])
        return job_id, self.cluster.volume / "jobs" / job_id / "work"

    def ended(self, job_id: str) -> str:
        """Wait for a job's end and return its state."""
        until(lambda: self.client.get_job(job_id)["ended_at"] is not None, f"job {job_id} ends")
        return str(self.client.get_job(job_id)["state"])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Give an engine in a folder that every user can pass through; pytest's own cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="echelon-user-"))
    folder.chmod(0o711)
    (folder / "files").mkdir()
    (folder / "files" / "leave").write_text('echo $$ > "$1"\nexec sleep 3213\n')
    shutil.copy(PEEPER, folder / "files")
    try:
        with Cluster(folder, CATALOGUE, Shape(controllers=1, workers=1, datastore="sqlite")) as cluster:
            yield Engine(cluster)
    finally:
        shutil.rmtree(folder)


def read_pid(file: Path) -> int:
    until(lambda: file.exists() and file.read_text().endswith("\n"), f"{file.name} is written")
    return int(file.read_text())


def test_a_task_reaches_neither_the_engines_secrets_nor_another_job(engine: Engine) -> None:
    cluster = engine.cluster
    other, place = engine.submit("hold")
    pid = read_pid(place / "pid")
    processes = [one for program in cluster.programs for one in family(program.pid) if one != pid]
    state = cluster.folder / "state" / engine.worker.name
    refused = [
        *(f"cat {file}" for file in (cluster.volume / ".echelon").iterdir()),
        f"cat {cluster.database.removeprefix('sqlite:///')}",
        *(f"ls {folder}" for folder in (cluster.volume, cluster.volume / "jobs", cluster.folder, state)),
        *(f"cat {file}" for file in state.iterdir()),
        f"cat {place}/artefact",
        f"cat {place}/../attempts/0/0-1.stdout",
        f"touch {place}/new",
        f"cat /proc/{pid}/environ",
        f"ls /proc/{pid}/cwd/",
        *(f"cat /proc/{one}/environ" for one in processes),
        *(f"kill -0 {one}" for one in processes),
    ]
    tried = "; ".join(f"if {one} >/dev/null; then echo 'possible: {one}'; fi" for one in refused)
    look = f"/usr/bin/python3 peeping.py {' '.join(map(str, [*processes, pid]))}"

    job_id, _ = engine.submit("try", script=f"id -un; {tried}; {look}")

    assert engine.ended(job_id) == "COMPLETED", engine.client.get_job(job_id)["error"]
    user, *possible, found = (cluster.volume / "jobs" / job_id / "attempts/0/0-1.stdout").read_text().splitlines()
    assert (user, possible) == ("nobody", [])
    assert json.loads(found)["engine"] == {str(one): NOTHING for one in [*processes, pid]}
    assert CANARY not in found and "guest:guest" not in found
    errors = (cluster.volume / "jobs" / job_id / "attempts/0/0-1.stderr").read_text()
    assert errors.count("enied") + errors.count("not permitted") == len(refused), errors
    (place / "go").touch()
    assert engine.ended(other) == "COMPLETED"


@pytest.mark.parametrize("containment", ["cgroup", "subreaper"])
def test_what_its_tasks_have_left_ends_when_a_killed_worker_is_back(engine: Engine, containment: str) -> None:
    if containment == "cgroup" and not can_make_cgroups():
        pytest.skip("no cgroups of version 2 can be made here")
    engine.worker.prefix = () if containment == "cgroup" else WITHOUT_CGROUPS
    engine.worker.kill()
    engine.worker.start()
    until(lambda: engine.containment == containment, "the worker is up")
    job_id, work = engine.submit("leave")
    marked, bare = read_pid(work / "marked"), read_pid(work / "bare")

    engine.worker.kill()
    try:
        assert not gone(marked) and not gone(bare)
        engine.worker.start()
        until(lambda: gone(marked), "a process that carries the worker's mark is ended")
        assert engine.ended(job_id) == "COMPLETED"
        # As the page on processes says: without cgroups nothing tells whose this one is.
        assert gone(bare) == (containment == "cgroup")
    finally:
        for pid in (marked, bare):
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
