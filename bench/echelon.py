"""Echelon as users run it: the `echelon` command in separate processes, jobs over REST, nothing switched off."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.bare import CLOCK, TRUE
from bench.counting import COUNTED
from bench.resources import Resources
from bench.rest import Rest
from echelon.controller.datastore.open import migrate_datastore
from tests.contract.servers import free_port, fresh_database
from tests.system.cluster import ROOT, Program
from tests.system.process import until

#: Seconds for a process to end by itself.
_PATIENCE = 30.0
#: One bench spawns more tasks than the setting's default allows.
_MAX_ITEMS = 1_000_000

#: The job whose tasks are added and held back.
HELD = "held"
#: Lengths of the chains in the catalogue.
CHAINS = (20, 100)


def make_catalogue() -> dict[str, object]:
    """Return the catalogue. Its spawn task copies a list of items, which is the cheapest way."""
    items = {"items": {"source": "parameter"}}

    def fan_out(middle: str) -> dict[str, object]:
        spawning = {"name": "Middle", "spawn_task": "list", "task_class": middle}
        return {"input": items, "stages": [_describe_stage("First"), spawning, _describe_stage("Last")]}

    return {
        "tasks": {
            "work": {"exec_command": TRUE[0]},
            "counted": {"exec_command": TRUE[0], "queue": COUNTED},
            "clock": {"exec_command": CLOCK[0], "exec_args": list(CLOCK[1:])},
            "hold": {"exec_command": "sleep", "exec_args": ["100000"]},
            "list": {"input": items, "exec_command": "cp", "exec_args": ["{items}", "spawn.json"]},
        },
        "jobs": {
            "single": {"stages": [_describe_stage("Only")]},
            "clock": {"stages": [{"name": "Clock", "task_class": "clock"}]},
            "fan_out": fan_out("work"),
            "counted": fan_out("counted"),
            HELD: {
                "stages": [
                    {"name": "Held", "task_class": "hold", "tasks": "open", "max_parallel": 1, "paused": True},
                    _describe_stage("Last"),
                ]
            },
            **{f"chain_{length}": {"stages": [_describe_stage(str(n)) for n in range(length)]} for length in CHAINS},
        },
    }


def _describe_stage(name: str) -> dict[str, object]:
    return {"name": name, "task_class": "work"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A form of Echelon: its processes and its store."""

    name: str
    #: Controller and workers are separate processes, with RabbitMQ between them.
    distributed: bool
    postgresql: bool = False
    workers: int = 2
    #: The workers' `--queue`; None: all queues.
    queue: str | None = None


STANDALONE = Shape("standalone", distributed=False)
SQLITE = Shape("sqlite", distributed=True)
POSTGRESQL = Shape("postgresql", distributed=True, postgresql=True)
SHAPES = (STANDALONE, SQLITE, POSTGRESQL)


class Echelon:
    """A running Echelon."""

    def __init__(self, folder: Path, shape: Shape, datastore: str | None, resources: Resources) -> None:
        self._folder, self._shape, self._resources = folder, shape, resources
        self.volume = folder / "volume"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._catalogue = folder / "catalogue.yaml"
        environ = _make_environ(folder)
        if datastore:
            environ["ECHELON_DATASTORE"] = datastore
        if shape.distributed:
            environ["ECHELON_BROKER"] = resources.rabbitmq.url
        arguments = ["controller" if shape.distributed else "standalone", "--catalogue", str(self._catalogue)]
        arguments += ["--volume", str(self.volume), "--listen", f"127.0.0.1:{port}"]
        self._first = Program("controller", arguments, environ | {"ECHELON_MAX_ITEMS": str(_MAX_ITEMS)}, folder)
        self._workers = [self._make_worker(number, environ) for number in range(1, shape.workers + 1)]
        self.rest = Rest(self.url)

    def _make_worker(self, number: int, environ: Mapping[str, str]) -> Program:
        name = f"worker{number}"
        arguments = ["worker", "--volume", str(self.volume), "--name", name, "--state-dir", str(self._folder / name)]
        if self._shape.queue:
            arguments += ["--queue", self._shape.queue]
        return Program(name, arguments, environ, self._folder)

    def start(self) -> None:
        """Start all processes and return when every worker is up."""
        self._catalogue.write_text(json.dumps(make_catalogue()), encoding="ascii")
        self._first.start()
        wanted = 1
        if self._shape.distributed:
            until((self.volume / ".echelon" / "volume-id").exists, f"there is a volume; logs: {self._folder}")
            for worker in self._workers:
                worker.start()
            wanted = len(self._workers)
        until(lambda: self.rest.count_workers() == wanted, f"Echelon is ready; its logs: {self._folder}")

    def stop(self) -> None:
        """End all processes in order, workers first."""
        self.rest.close()
        started = [program for program in [*self._workers, self._first] if program.lives]
        for program in started:
            program.terminate()
            try:
                program.wait(_PATIENCE)
            finally:
                program.kill()

    # --- what is measured

    def run_fan_out(self, count: int, job_type: str = "fan_out") -> float:
        """Run 1 + `count` + 1 tasks in three stages and return the seconds."""
        values = {"items": str(self.write_items(count))}
        begun = time.perf_counter()
        self.rest.wait_completed(self.rest.submit_job(job_type, values))
        return time.perf_counter() - begun

    def run_chain(self, stages: int) -> float:
        """Run stages of one task each and return the seconds."""
        begun = time.perf_counter()
        self.rest.wait_completed(self.rest.submit_job(f"chain_{stages}"))
        return time.perf_counter() - begun

    def measure_latency(self) -> float:
        """Submit one task and return the seconds until its process read the clock."""
        begun = time.time()
        job_id = self.rest.submit_job("clock")
        self.rest.wait_completed(job_id)
        return int(self.rest.get_log(job_id).split()[-1]) / 1e9 - begun

    @property
    def parts(self) -> Mapping[str, int]:
        """Return the first process of each part."""
        if not self._shape.distributed:
            return {"engine": self._first.pid}
        found = {"controller": self._first.pid, "broker": self._resources.rabbitmq.pid}
        found |= {f"worker {number}": worker.pid for number, worker in enumerate(self._workers, 1)}
        if self._shape.postgresql:
            found["database"] = self._resources.postgresql.pid
        return found

    def write_items(self, count: int) -> Path:
        """Return a file for the spawn task to copy: `count` items without values."""
        path = self._folder / f"items-{count}.json"
        if not path.exists():
            path.write_text(json.dumps([{}] * count), encoding="ascii")
        return path


def _make_environ(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}


@contextmanager
def run_echelon(resources: Resources, folder: Path, shape: Shape, *, datastore: str | None = None) -> Iterator[Echelon]:
    """Run Echelon in a folder; without a `datastore` it gets an empty one."""
    if shape.distributed:
        resources.empty_queues()
    if shape.postgresql and datastore is None:
        with fresh_database(resources.postgresql.url) as url:
            migrate_datastore(url)
            with run_echelon(resources, folder, shape, datastore=url) as echelon:
                yield echelon
        return
    echelon = Echelon(folder, shape, datastore, resources)
    try:
        echelon.start()
        yield echelon
    finally:
        echelon.stop()
