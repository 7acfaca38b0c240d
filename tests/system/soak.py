"""A long quiet run: jobs come, end and are deleted, and nothing grows.

`python -m tests.system.soak --minutes 30` prints the figures of docs/evidence/reliability.md.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from echelon.controller.client import Client
from echelon.shared.errors import EchelonError
from tests.system.cluster import Cluster, Shape
from tests.system.drills import pass_by
from tests.system.gauges import Gauge, gauge, processes_of, zombies_of
from tests.system.process import Standalone
from tests.system.workload import Plan, Workload

#: Seconds between two looks.
_EVERY = 5.0
_MIB = 1 << 20
#: Bars: tasks per second at least; MiB per hour at most; files and threads more at the end than after the warm-up.
RATE, SLOPE, SPREAD = 5.0, 1.0, 2
#: A process that is seen no more often than so often is none of ours; one that stays is seen in this part of looks.
MOMENT, WHOLE = 2, 0.95
#: Bytes by which the store may be larger in the last third of a run than in the first one after the warm-up.
STORE_GROWTH = 8 * _MIB


@dataclass
class Done:
    """The work that the clients have had done."""

    jobs: int = 0
    tasks: int = 0
    complaints: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Customer:
    """Has one job done after the other, looks whether it came out right, and deletes it."""

    def __init__(self, seed: str, url: str, plans: list[Plan], done: Done) -> None:
        self._rng = random.Random(seed)
        self._url = url
        self._plans = plans
        self._done = done

    def run(self, leave: threading.Event) -> None:
        """Go on until told to leave."""
        with Client(self._url) as client:
            while not leave.is_set():
                try:
                    self._run_job(client, self._rng.choice(self._plans), leave)
                except EchelonError as error:
                    self._done.complaints.append(f"{type(error).__name__}: {error}")
                    leave.wait(1.0)

    def _run_job(self, client: Client, plan: Plan, leave: threading.Event) -> None:
        values = {"count": self._rng.randint(0, 40 if plan.wide else 6)}
        job_id = client.submit_job(plan.type, input=values, headers={"X-Token": "c4n4ry"})["job_id"]
        while (job := client.get_job(job_id))["ended_at"] is None:
            threading.Event().wait(0.2)
        with self._done.lock:
            self._done.jobs += 1
            self._done.tasks += sum(sum(stage["counts"].values()) for stage in job["stages"])
            if job["state"] != plan.outcome:
                self._done.complaints.append(f"job {job_id} ({plan.type}) is {job['state']}, not {plan.outcome}")
        client.delete_job(job_id)


class Alone:
    """A standalone engine, looked at like a cluster."""

    def __init__(self, engine: Standalone) -> None:
        self.programs, self.urls = [engine], [engine.url]
        self.folder = engine.volume / ".echelon"


class Watch:
    """Looks at every process of a cluster, and at its store, again and again."""

    def __init__(self, cluster: Cluster | Alone) -> None:
        self._cluster = cluster
        #: Name of a process -> (seconds since the beginning, what it cost).
        self.gauges: dict[str, list[tuple[float, Gauge]]] = defaultdict(list)
        #: (seconds since the beginning, bytes of the store with its WAL).
        self.store: list[tuple[float, int]] = []
        self.zombies: set[int] = set()
        self._seen: set[int] = set()

    def look(self, at: float) -> None:
        """Look once."""
        dead: set[int] = set()
        for program in self._cluster.programs:
            for pid in processes_of(program.pid):
                with suppress(OSError):
                    self.gauges[f"{program.name}, {pid}"].append((at, gauge(pid)))
                dead |= zombies_of(pid)
        # One that is there for two looks is not about to be buried.
        self.zombies |= dead & self._seen
        self._seen = dead
        self.store.append((at, self._bytes_of_store()))

    def _bytes_of_store(self) -> int:
        if isinstance(self._cluster, Alone) or self._cluster.postgresql is None:
            folder = self._cluster.folder
            return sum(file.stat().st_size for file in folder.glob("echelon.db*"))
        statement = "SELECT pg_database_size(current_database())::bigint"
        return int(str(self._cluster.psql(statement)[0][0]))


def fit_slope(points: list[tuple[float, float]]) -> float:
    """Return by how much the values grow in an hour: the least-squares line through (seconds, value)."""
    return 3600.0 * statistics.linear_regression(*zip(*points, strict=True)).slope


def find_growth(values: list[float]) -> float:
    """Return by how much the median of the last third is above that of the first."""
    third = max(1, len(values) // 3)
    return statistics.median(values[-third:]) - statistics.median(values[:third])


def run_soak(
    cluster: Cluster | Alone, workload: Workload, minutes: float, *, warm_up: float, customers: int
) -> dict[str, object]:
    """Let customers have jobs done for so many minutes; return what grew after the first `warm_up` seconds."""
    done, leave, watch = Done(), threading.Event(), Watch(cluster)
    threads = [
        threading.Thread(
            target=Customer(str(number), cluster.urls[number % len(cluster.urls)], workload.plans, done).run,
            args=(leave,),
        )
        for number in range(customers)
    ]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    try:
        while (at := time.monotonic() - begun) < 60.0 * minutes:
            watch.look(at)
            pass_by(_EVERY)
    finally:
        leave.set()
        for thread in threads:
            thread.join()
    return summarize_soak(watch, done, seconds=60.0 * minutes, warm_up=warm_up)


def summarize_soak(watch: Watch, done: Done, *, seconds: float, warm_up: float) -> dict[str, object]:
    """Return the figures, and which bars they miss."""
    figures: dict[str, object] = {
        "minutes": round(seconds / 60.0, 1), "jobs": done.jobs, "tasks": done.tasks,
        "tasks per second": round(done.tasks / seconds, 1), "zombies": len(watch.zombies),
    }  # fmt: skip
    missed = list(done.complaints)
    if done.tasks / seconds < RATE:
        missed.append(f"less than {RATE:g} tasks per second")
    if watch.zombies:
        missed.append("zombies stay")
    stored = [size for at, size in watch.store if at >= warm_up]
    for name, looks in watch.gauges.items():
        late = [(at, one) for at, one in looks if at >= warm_up]
        if len(late) < WHOLE * len(stored):
            # The child that becomes a task looks like its worker for a moment.
            missed += [f"{name}: it was not there all the time"] if len(looks) > MOMENT else []
            continue
        memory = fit_slope([(at, one.memory / _MIB) for at, one in late])
        files, threads = find_growth([one.files for _, one in late]), find_growth([one.threads for _, one in late])
        figures[name] = {
            "MiB": round(late[-1][1].memory / _MIB, 1), "MiB per hour": round(memory, 2),
            "files": (late[0][1].files, late[-1][1].files), "threads": (late[0][1].threads, late[-1][1].threads),
        }  # fmt: skip
        grown = {"MiB per hour": memory > SLOPE, "files": files > SPREAD, "threads": threads > SPREAD}
        missed += [f"{name}: {what}" for what, is_so in grown.items() if is_so]
    figures["MiB of the store"] = [round(size / _MIB, 1) for size in (stored[0], max(stored), stored[-1])]
    if find_growth([float(size) for size in stored]) > STORE_GROWTH:
        missed.append("the store grows")
    return figures | {"missed": missed}


@click.command()
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--warm-up", type=float, help="Seconds that do not count; a fifth of the run otherwise.")
@click.option("--customers", default=8, show_default=True)
@click.option("--datastore", type=click.Choice(["postgresql", "sqlite"]), default="postgresql", show_default=True)
@click.option("--standalone", is_flag=True, help="One program instead of a cluster.")
def main(minutes: float, warm_up: float | None, customers: int, datastore: str, standalone: bool) -> None:
    """Let a quiet cluster work for long and print what grows; exit 1 when a bar is missed."""
    warm_up = 12.0 * minutes if warm_up is None else warm_up
    controllers = 1 if datastore == "sqlite" else 2
    shape = Shape(lease=15.0, heartbeat=5.0, datastore=datastore, controllers=controllers, diary=False)
    with tempfile.TemporaryDirectory(prefix="echelon-soak-", ignore_cleanup_errors=True) as name:
        workload = Workload(1, Path(name), long=3.0)
        catalogue = workload.catalogue(1)
        with Standalone(Path(name), catalogue) if standalone else Cluster(Path(name), catalogue, shape) as started:
            cluster = Alone(started) if isinstance(started, Standalone) else started
            figures = run_soak(cluster, workload, minutes, warm_up=warm_up, customers=customers)
    print(json.dumps(figures, indent=1))
    raise SystemExit(1 if figures["missed"] else 0)


if __name__ == "__main__":
    main()
