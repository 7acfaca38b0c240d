"""A disk without room and a worker without file descriptors: nothing is lost, and it goes on when there is more."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from echelon.shared.errors import EchelonError
from tests.system.cluster import Cluster, Shape
from tests.system.drills import CATALOGUE, Job, whole
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

SHAPE = Shape(controllers=1, workers=1, slots=2, datastore="sqlite")
HOG = """
  hog: {exec_command: sh, exec_args: [-c, 'head -c 64000000 /dev/zero > big']}
jobs:
  hog: {stages: [{name: Hog, task_class: hog, job_failed_on_error: true}]}
"""


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a disk with room for 12 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    # Such a disk would count as full from the beginning.
    monkeypatch.setenv("ECHELON_MIN_FREE", "1MiB")
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes a right that this user does not have")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def submit(cluster: Cluster, kind: str = "quick") -> requests.Response:
    return requests.post(f"{cluster.urls[0]}/api/v1/jobs", json={"type": kind, "input": {}}, timeout=30.0)


def test_a_full_disk_under_volume_and_datastore_loses_nothing_and_everything_goes_on_by_itself(disk: Path) -> None:
    with Cluster(disk, CATALOGUE, SHAPE) as cluster:
        running = Job(cluster, "wait")
        running.started()
        # The task's own last act needs no room.
        (running.folder / "go").write_text("")
        (running.folder / "go").rename(running.folder / "later")
        fill(disk / "filler")

        until(lambda: submit(cluster).status_code == 503, "the datastore has no room for another job")
        refused = submit(cluster)
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
        assert "full" in refused.json()["detail"]
        assert [part["name"] for part in cluster.client().get_health()["parts"] if not part["ok"]] == ["disk"]
        assert cluster.client().get_job(running.job_id)["state"] == "RUNNING"
        (running.folder / "later").rename(running.folder / "go")
        (disk / "filler").unlink()

        until(lambda: submit(cluster).status_code == 201, "the datastore takes jobs again")
        assert running.finish() == "COMPLETED"
        assert Job(cluster, "quick").finish() == "COMPLETED"
        assert all(program.running for program in cluster.programs)
        whole(cluster)


def fill(path: Path) -> None:
    """Write until there is no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def test_a_task_that_fills_the_disk_fails_and_the_others_go_on_when_its_files_are_gone(disk: Path) -> None:
    with Cluster(disk, CATALOGUE.replace("\njobs:\n", HOG), SHAPE) as cluster:
        job = cluster.client().submit_job("hog")
        big = cluster.volume / "jobs" / job["job_id"] / "work" / "big"
        until(lambda: big.exists() and big.stat().st_size > 1_000_000, "it fills the disk")
        errors = log_until_full(cluster, job["job_id"], big)

        assert "No space left on device" in errors
        assert Job(cluster, "quick").finish() == "COMPLETED"
        whole(cluster)


def log_until_full(cluster: Cluster, job_id: str, big: Path) -> str:
    """Make room when the disk is full, wait for the job's end, and return what its task is said to have died of."""

    def ended() -> bool:
        try:
            if not room(big.parent):
                big.unlink(missing_ok=True)
            return cluster.client().get_job(job_id)["state"] == "FAILED"
        except EchelonError:
            return False

    until(ended, "the job has failed")
    return str(next(cluster.client().list_tasks(job_id))["error"])


def room(folder: Path) -> int:
    done = subprocess.run(["stat", "-f", "-c", "%a", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_worker_without_file_descriptors_hands_tasks_back_and_goes_on_when_it_has_some(tmp_path: Path) -> None:
    with Cluster(tmp_path, CATALOGUE, SHAPE) as cluster:
        worker = cluster.workers[0]
        assert Job(cluster, "quick").finish() == "COMPLETED"
        before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        job = Job(cluster, "quick")
        task = next(cluster.client().list_tasks(job.job_id))

        def attempts() -> list[str]:
            return [str(one["outcome"]) for one in cluster.client().get_task(task["task_id"])["attempts"]]

        until(lambda: "Too many open files" in worker.log.read_text(), "the worker says that it is its own fault")
        assert worker.running and cluster.client().get_job(job.job_id)["state"] == "RUNNING"
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)

        assert job.finish() == "COMPLETED"
        # No process has started for it before, so there was no other attempt.
        assert attempts() == ["completed"]
        assert worker.running
        whole(cluster)
