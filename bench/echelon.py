"""Echelon as a user runs it: the `echelon` command in processes of its own, jobs over REST, nothing switched off."""

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
from bench.ground import Ground
from bench.rest import Rest
from echelon.controller.datastore.open import migrate
from tests.contract.servers import free_port, fresh_database
from tests.system.cluster import ROOT, Program
from tests.system.process import until

#: Seconds that a process gets to end by itself.
_PATIENCE = 30.0
#: More tasks than the setting's default are asked for by one bench.
_MAX_ITEMS = 1_000_000

#: The job whose tasks are added, and held back.
HELD = "held"
#: Lengths of the chains that can be asked for.
CHAINS = (20, 100)


def catalogue() -> dict[str, object]:
    """Return the catalogue; a spawn task that copies a list of items is the cheapest there is."""
    items = {"items": {"source": "parameter"}}

    def fan_out(middle: str) -> dict[str, object]:
        spawning = {"name": "Middle", "spawn_task": "list", "task_class": middle}
        return {"input": items, "stages": [_stage("First"), spawning, _stage("Last")]}

    return {
        "tasks": {
            "work": {"exec_command": TRUE[0]},
            "counted": {"exec_command": TRUE[0], "queue": COUNTED},
            "clock": {"exec_command": CLOCK[0], "exec_args": list(CLOCK[1:])},
            "hold": {"exec_command": "sleep", "exec_args": ["100000"]},
            "list": {"input": items, "exec_command": "cp", "exec_args": ["{items}", "spawn.json"]},
        },
        "jobs": {
            "single": {"stages": [_stage("Only")]},
            "clock": {"stages": [{"name": "Clock", "task_class": "clock"}]},
            "fan_out": fan_out("work"),
            "counted": fan_out("counted"),
            HELD: {
                "stages": [
                    {"name": "Held", "task_class": "hold", "tasks": "open", "max_parallel": 1, "paused": True},
                    _stage("Last"),
                ]
            },
            **{f"chain_{length}": {"stages": [_stage(str(n)) for n in range(length)]} for length in CHAINS},
        },
    }


def _stage(name: str) -> dict[str, object]:
    return {"name": name, "task_class": "work"}


@dataclass(frozen=True, slots=True)
class Shape:
    """How Echelon is put together."""

    name: str
    #: Controller and workers apart, with RabbitMQ between them.
    distributed: bool
    postgresql: bool = False
    workers: int = 2
    #: What workers are told to take; none: everything.
    queue: str | None = None


STANDALONE = Shape("standalone", distributed=False)
SQLITE = Shape("sqlite", distributed=True)
POSTGRESQL = Shape("postgresql", distributed=True, postgresql=True)
SHAPES = (STANDALONE, SQLITE, POSTGRESQL)


class Echelon:
    """A running Echelon."""

    def __init__(self, folder: Path, shape: Shape, datastore: str | None, ground: Ground) -> None:
        self._folder, self._shape, self._ground = folder, shape, ground
        self.volume = folder / "volume"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._catalogue = folder / "catalogue.yaml"
        environ = _environ(folder)
        if datastore:
            environ["ECHELON_DATASTORE"] = datastore
        if shape.distributed:
            environ["ECHELON_BROKER"] = ground.rabbitmq.url
        arguments = ["controller" if shape.distributed else "standalone", "--catalogue", str(self._catalogue)]
        arguments += ["--volume", str(self.volume), "--listen", f"127.0.0.1:{port}"]
        self._first = Program("controller", arguments, environ | {"ECHELON_MAX_ITEMS": str(_MAX_ITEMS)}, folder)
        self._workers = [self._worker(number, environ) for number in range(1, shape.workers + 1)]
        self.rest = Rest(self.url)

    def _worker(self, number: int, environ: Mapping[str, str]) -> Program:
        name = f"worker{number}"
        arguments = ["worker", "--volume", str(self.volume), "--name", name, "--state-dir", str(self._folder / name)]
        if self._shape.queue:
            arguments += ["--queue", self._shape.queue]
        return Program(name, arguments, environ, self._folder)

    def start(self) -> None:
        """Start all processes and return when every worker is up."""
        self._catalogue.write_text(json.dumps(catalogue()), encoding="ascii")
        self._first.start()
        wanted = 1
        if self._shape.distributed:
            until((self.volume / ".echelon" / "volume-id").exists, f"there is a volume; logs: {self._folder}")
            for worker in self._workers:
                worker.start()
            wanted = len(self._workers)
        until(lambda: self.rest.workers_up() == wanted, f"Echelon is ready; its logs: {self._folder}")

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

    def fan_out(self, count: int, job_type: str = "fan_out") -> float:
        """Run 1 + `count` + 1 tasks in three stages and return the seconds."""
        values = {"items": str(self.items(count))}
        begun = time.perf_counter()
        self.rest.completed(self.rest.submit(job_type, values))
        return time.perf_counter() - begun

    def chain(self, stages: int) -> float:
        """Run stages of one task each and return the seconds."""
        begun = time.perf_counter()
        self.rest.completed(self.rest.submit(f"chain_{stages}"))
        return time.perf_counter() - begun

    def latency(self) -> float:
        """Submit one task and return the seconds until its process read the clock."""
        begun = time.time()
        job_id = self.rest.submit("clock")
        self.rest.completed(job_id)
        return int(self.rest.log(job_id).split()[-1]) / 1e9 - begun

    @property
    def parts(self) -> Mapping[str, int]:
        """Return the first process of each part."""
        if not self._shape.distributed:
            return {"engine": self._first.pid}
        found = {"controller": self._first.pid, "broker": self._ground.rabbitmq.pid}
        found |= {f"worker {number}": worker.pid for number, worker in enumerate(self._workers, 1)}
        if self._shape.postgresql:
            found["database"] = self._ground.postgresql.pid
        return found

    def items(self, count: int) -> Path:
        """Return a file that a spawn task can hand in: `count` items without values of their own."""
        path = self._folder / f"items-{count}.json"
        if not path.exists():
            path.write_text(json.dumps([{}] * count), encoding="ascii")
        return path


def _environ(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}


@contextmanager
def running(ground: Ground, folder: Path, shape: Shape, *, datastore: str | None = None) -> Iterator[Echelon]:
    """Run Echelon on a folder; without a `datastore` it has an empty one of its own."""
    if shape.distributed:
        ground.empty_queues()
    if shape.postgresql and datastore is None:
        with fresh_database(ground.postgresql.url) as url:
            migrate(url)
            with running(ground, folder, shape, datastore=url) as echelon:
                yield echelon
        return
    echelon = Echelon(folder, shape, datastore, ground)
    try:
        echelon.start()
        yield echelon
    finally:
        echelon.stop()
