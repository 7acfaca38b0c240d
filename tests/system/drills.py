"""Drills: single faults on a quiet cluster, each with the time until work goes on.

`python -m tests.system.drills` prints the figures of docs/evidence/reliability.md; the tests hold the same ones to
their bars.
"""

from __future__ import annotations

import json
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import requests

from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.open import open_datastore
from echelon.controller.settings import Settings
from echelon.shared.errors import EchelonError
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue
from tests.system.cluster import Cluster, Program, Shape
from tests.system.process import until

#: Seconds between TERM and KILL of a task that ignores TERM.
STUBBORN_GRACE = 1.0
#: Seconds within which a connected worker ends what was cancelled, and starts none of it that it held.
CANCEL_HEARD = 2.0
#: pytest's `record_property`.
Show = Callable[[str, object], None]

CATALOGUE = """
tasks:
  wait:
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts;
      while [ ! -e go ]; do sleep 0.05; done']
    # A worker keeps a lease's margin and this much of it in reserve: little, so that short leases leave time to run.
    grace: 1s
  patient:
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts;
      while [ ! -e go ]; do sleep 0.05; done']
  poison:
    grace: 1s
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts;
      sleep 0.2; kill -KILL $PPID; sleep 100']
  stubborn:
    grace: 1s
    exec_command: bash
    exec_args: [-c, 'trap "" TERM; echo "$ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts;
      while [ ! -e go ]; do sleep 0.05; done']
  many:
    input: {count: {source: parameter, type: integer}}
    exec_command: python3
    exec_args: [-c, 'import json, os, sys;
      json.dump([{}] * int(sys.argv[1]), open(os.environ["ECHELON_SPAWN_FILE"], "w"))', "{count}"]
  flood:
    input: {size: {source: parameter, type: integer}}
    exec_command: bash
    exec_args: [-c, 'yes | head -c "$0"; echo last; exit 7', "{size}"]
  brief:
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts; sleep 0.2']
  quick:
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts']
  whisper:
    grace: 1s
    input: {token: {source: parameter, secret: true}}
    env: {TOKEN: "{token}"}
    exec_command: bash
    exec_args: [-c, 'echo "$ECHELON_ATTEMPT $EPOCHREALTIME ${TMPDIR##*/}" >> starts;
      echo ${#TOKEN} > length; echo "say $TOKEN"; while [ ! -e go ]; do sleep 0.05; done']
jobs:
  wait: {stages: [{name: Wait, task_class: wait}]}
  patient: {stages: [{name: Patient, task_class: patient}]}
  poison: {stages: [{name: Poison, task_class: poison}]}
  stubborn: {stages: [{name: Stubborn, task_class: stubborn}]}
  flood:
    input: {size: {source: parameter, type: integer}}
    stages: [{name: Flood, task_class: flood}]
  many:
    input: {count: {source: parameter, type: integer}}
    stages: [{name: Many, spawn_task: many, task_class: brief}]
  quick: {stages: [{name: Quick, task_class: quick}]}
  whisper:
    input: {token: {source: http-header, key: X-Token, secret: true}}
    stages: [{name: Whisper, task_class: whisper}]
"""


class Job:
    """A submitted job whose tasks note their starts in its workspace."""

    def __init__(self, cluster: Cluster, kind: str, headers: dict[str, str] | None = None, **values: JsonValue) -> None:
        self._cluster = cluster
        self.job_id = cluster.client().submit_job(kind, input=values, headers=headers)["job_id"]
        self.folder = cluster.volume / "jobs" / self.job_id / "work"

    @property
    def starts(self) -> list[tuple[int, float, str]]:
        """Return attempt, Unix time and worker's mark of each start."""
        try:
            lines = (self.folder / "starts").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(attempt), float(at), mark) for attempt, at, mark in map(str.split, lines)]

    def started(self, attempt: int = 1, patience: float = 60.0) -> float:
        """Wait for an attempt's start and return its Unix time."""
        until(
            lambda: any(one[0] >= attempt for one in self.starts),
            f"attempt {attempt} of {self.job_id} starts",
            patience,
        )
        return next(at for number, at, _ in self.starts if number >= attempt)

    @property
    def worker(self) -> Program:
        """Return the worker that started it last."""
        mark = self.starts[-1][2]
        return next(one for one in self._cluster.workers if mark.startswith(f"echelon-{one.name}-"))

    def finish(self, number: int = 0) -> str:
        """Let its task end, wait for the end and return its state."""
        if self.folder.exists():
            (self.folder / "go").touch()

        def ended() -> bool:
            try:
                return self._cluster.client(number).get_job(self.job_id)["ended_at"] is not None
            except EchelonError:
                return False

        until(ended, f"job {self.job_id} ends")
        return self._cluster.client(number).get_job(self.job_id)["state"]

    @property
    def claims(self) -> int:
        """Return how often its task has been claimed, which users do not see."""
        store = open_datastore(self._cluster.database)
        try:
            with store.read() as reader:
                (task,) = reader.list_tasks(JobId(self.job_id), TaskFilter(), limit=1, cursor=None).items
        finally:
            store.close()
        return task.claim

    @property
    def attempts(self) -> int:
        """Return the attempt that its task has come to."""
        return next(self._cluster.client().list_tasks(self.job_id))["attempt"]


def within(taken: float, promised: float, show: Show, *, asserted: float = 0.0) -> None:
    """Hold a recovery to its bar and show it; `asserted` is a wider bar where much depends on how busy a machine is."""
    show("shown", f"{taken:.2f} s; promised are {promised:g} s")
    assert taken < (asserted or promised)


def pass_by(seconds: float) -> None:
    """Let time pass: what is awaited is that nothing happens."""
    over = time.monotonic() + seconds
    until(lambda: time.monotonic() >= over, "time has passed", seconds + 10.0)


def whole(cluster: Cluster) -> None:
    """Wait until nothing is missing."""
    until(cluster.ready, "the cluster is whole")


def worker_restarted(cluster: Cluster) -> float:
    """Kill a worker and start it again at once: seconds until its task runs again."""
    job = Job(cluster, "wait")
    job.started()
    worker = job.worker
    worker.kill()
    begun = time.time()
    worker.start()
    again = job.started(2) - begun
    assert job.finish() == "COMPLETED"
    whole(cluster)
    return again


def worker_gone(cluster: Cluster) -> float:
    """Kill a worker for good: seconds until its task runs elsewhere."""
    job = Job(cluster, "wait")
    job.started()
    worker = job.worker
    begun = time.time()
    worker.kill()
    again = job.started(2) - begun
    worker.start()
    assert job.finish() == "COMPLETED"
    whole(cluster)
    return again


def broker_back(cluster: Cluster, away: float = 2.0) -> float:
    """Kill the broker, start it after `away` seconds: seconds from its first answer until all that waits for it runs.

    That is a task whose order got lost with the broker, without a word to the controller, and one of a job that the API
    took meanwhile. The task that runs is not touched.
    """
    running = Job(cluster, "wait")
    running.started()
    jobs = [_ordered_into_the_void(cluster)]
    cluster.rabbit.stop(signal.SIGKILL)
    for one in cluster.controllers:
        one.links["broker"].heal()
    jobs.append(Job(cluster, "quick"))
    pass_by(away)
    assert not any(job.starts for job in jobs)
    cluster.rabbit.start()
    begun = time.time()
    again = max(job.started() for job in jobs) - begun
    assert [job.finish() for job in (*jobs, running)] == ["COMPLETED"] * 3
    assert len(running.starts) == running.attempts == 1, "what ran was run again"
    whole(cluster)
    return again


def _ordered_into_the_void(cluster: Cluster) -> Job:
    """Return a job whose task has been granted to a worker that never hears of it; the links have to be healed."""
    for one in cluster.controllers:
        one.links["broker"].swallow()
    job = Job(cluster, "quick")
    until(lambda: job.claims == 1, "its task is granted")
    return job


def database_back(cluster: Cluster) -> float:
    """Stop PostgreSQL at once and start it: seconds from its first answer until every controller answers 200.

    Meanwhile there is no answer but 503 with Retry-After, and the task that runs is not touched.
    """
    assert cluster.postgresql is not None
    running = Job(cluster, "wait")
    running.started()
    cluster.postgresql.stop()
    for url in cluster.urls:
        for answer in (requests.get(f"{url}/api/v1/jobs", timeout=30.0), _submit(url)):
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0, answer.text
    cluster.postgresql.start()
    begun = time.time()
    until(
        lambda: all(requests.get(f"{url}/api/v1/jobs", timeout=30.0).status_code == 200 for url in cluster.urls),
        "it answers",
    )
    again = time.time() - begun
    assert running.finish() == "COMPLETED"
    assert len(running.starts) == running.attempts == 1, "what ran was run again"
    whole(cluster)
    return again


def _submit(url: str) -> requests.Response:
    return requests.post(f"{url}/api/v1/jobs", json={"type": "quick", "input": {}}, timeout=30.0)


def drained(cluster: Cluster) -> float:
    """Ask a worker to end while its task runs on: seconds from the end of its time until the task runs elsewhere."""
    job = Job(cluster, "wait")
    job.started()
    worker = job.worker
    worker.terminate()
    cut = time.time() + cluster.shape.drain_timeout
    assert worker.wait() == 0
    again = job.started(2) - cut
    assert job.worker is not worker
    worker.start()
    assert job.finish() == "COMPLETED"
    whole(cluster)
    return again


def drain_ends(cluster: Cluster) -> float:
    """Ask a worker to end whose task ignores TERM: seconds from `drain_timeout` and grace until it is gone."""
    job = Job(cluster, "stubborn")
    job.started()
    worker = job.worker
    promised = time.time() + cluster.shape.drain_timeout + STUBBORN_GRACE
    worker.terminate()
    assert worker.wait() == 0
    late = time.time() - promised
    worker.start()
    assert job.finish() == "COMPLETED"
    whole(cluster)
    return late


def many_cancelled(cluster: Cluster, count: int = 100_000) -> float:
    """Cancel a job with many queued tasks: seconds until that is answered.

    Nothing of it starts later than `CANCEL_HEARD` after the answer: by then the workers have heard of it.
    """
    job = Job(cluster, "many", count=count)
    client = cluster.client()

    def left(*states: str) -> int:
        stage = client.get_job(job.job_id)["stages"][0]
        return sum(stage["counts"][state] for state in states)

    until(lambda: left("QUEUED", "RUNNING", "COMPLETED") >= count, "all are there", 300.0)
    job.started()
    queued = left("QUEUED")
    begun = time.time()
    client.cancel_job(job.job_id)
    answered = time.time()
    until(lambda: not left("PENDING", "QUEUED", "RUNNING"), "nothing of it is left", 60.0)
    drained = time.time() - answered
    pass_by(CANCEL_HEARD + 1.0)
    late = [round(at - answered, 3) for _, at, _ in job.starts if at > answered]
    print(json.dumps({"queued": queued, "nothing left after": round(drained, 2), "late starts": late}), flush=True)
    assert max(late, default=0.0) < CANCEL_HEARD, f"started so many seconds after the answer: {late}"
    whole(cluster)
    return answered - begun


def controllers_away(cluster: Cluster) -> float:
    """Kill all controllers, and start them again after most of a lease."""
    return controllers_restarted(cluster, away=0.8 * cluster.shape.lease)


def controllers_restarted(cluster: Cluster, away: float = 0.0) -> float:
    """Kill all controllers and start them again: seconds until they answer; the task that runs is not touched."""
    default = cluster.shape.lease >= Settings().lease
    running = Job(cluster, "patient" if default else "wait")
    running.started()
    for program in cluster.controllers:
        program.kill()
    pass_by(away)
    begun = time.time()
    for program in cluster.controllers:
        program.start()
    until(lambda: all(cluster.answering(url) for url in cluster.urls), "they answer")
    again = time.time() - begun
    assert running.finish() == "COMPLETED"
    # The sign of a controller that was killed is believed for some seconds: too long for a lease that is short.
    if default:
        assert len(running.starts) == running.attempts == 1, "what ran was run again"
    whole(cluster)
    return again


DRILLS: dict[str, Callable[[Cluster], float]] = {
    "worker killed and started again": worker_restarted,
    "worker gone": worker_gone,
    "worker drained": drained,
    "broker killed and back": broker_back,
    "database restarted": database_back,
    "drain ends": drain_ends,
    "many cancelled": many_cancelled,
    "all controllers killed and started again": controllers_restarted,
    "all controllers killed, back after 0.8 leases": controllers_away,
}


@click.command()
@click.option("--times", default=5, show_default=True)
@click.option("--lease", default=15.0, show_default=True)
@click.option("--heartbeat", default=5.0, show_default=True)
@click.option("--only", default="", help="Drills whose name contains this.")
@click.option("--datastore", type=click.Choice(["postgresql", "sqlite"]), default="postgresql", show_default=True)
def main(times: int, lease: float, heartbeat: float, only: str, datastore: str) -> None:
    """Print how long each recovery takes: shortest, median and longest of several, in seconds."""
    shape = Shape(lease=lease, heartbeat=heartbeat, datastore=datastore, controllers=1 if datastore == "sqlite" else 2)
    with (
        tempfile.TemporaryDirectory(prefix="echelon-drills-", ignore_cleanup_errors=True) as folder,
        Cluster(Path(folder), CATALOGUE, shape) as cluster,
    ):
        for name, drill in DRILLS.items():
            if only not in name or (drill is database_back and datastore == "sqlite"):
                continue
            figures = [drill(cluster) for _ in range(times)]
            shown = [round(one, 2) for one in (min(figures), statistics.median(figures), max(figures))]
            print(json.dumps({name: shown}), flush=True)


if __name__ == "__main__":
    main()
