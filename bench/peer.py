"""Other engines as contestants: their workers, and a client that submits and waits."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.environments import ensure_environment
from bench.resources import Resources
from tests.system.cluster import ROOT

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Engine:
    """The command that starts the two worker processes of an engine; the program is in its environment."""

    name: str
    command: tuple[str, ...]
    rabbitmq: bool
    environ: Mapping[str, str] = field(default_factory=dict)


CELERY = Engine(
    "celery",
    (
        "celery", "--app", "bench.peers.celery_app", "worker", "--pool", "prefork", "--concurrency", "2",
        "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ),
    rabbitmq=True,
)  # fmt: skip
DRAMATIQ = Engine(
    "dramatiq",
    ("dramatiq", "bench.peers.dramatiq_app", "--processes", "2", "--threads", "1"),
    rabbitmq=True,
    environ={"dramatiq_queue_prefetch": "32"},
)
HUEY = Engine(
    "huey",
    (
        "huey_consumer", "bench.peers.huey_app.huey", "--workers", "2", "--worker-type", "process",
        "--no-periodic", "--disable-health-check", "--quiet",
    ),
    rabbitmq=False,
)  # fmt: skip


class Peer:
    """Another engine, running."""

    def __init__(self, engine: Engine, resources: Resources, folder: Path, *, results: bool) -> None:
        self._engine, self._resources = engine, resources
        self._bin = ensure_environment(engine.name)
        tasks = folder / "tasks"
        tasks.mkdir()
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        self._environ = kept | {
            "PATH": f"{self._bin}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "BENCH_BROKER": resources.rabbitmq.url if engine.rabbitmq else "",
            "BENCH_REDIS": resources.redis.url,
            "BENCH_FOLDER": str(tasks),
            "BENCH_RESULTS": "1" if results else "",
            **engine.environ,
        }
        with (folder / "worker.log").open("wb") as log:
            command = [str(self._bin / engine.command[0]), *engine.command[1:]]
            self._worker = subprocess.Popen(
                command, cwd=folder, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._client = self._start_client(folder)

    def _start_client(self, folder: Path) -> subprocess.Popen[str]:
        with (folder / "client.log").open("wb") as log:
            command = [str(self._bin / "python"), "-m", "bench.peers.drive", self._engine.name]
            return subprocess.Popen(
                command, cwd=folder, env=self._environ, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Return when the client is there and a task has run."""
        assert self._client.stdout is not None
        if self._client.stdout.readline() != "ready\n":
            raise RuntimeError(f"the client of {self._engine.name} does not start")
        self.measure_latency()

    def run_fan_out(self, count: int) -> float:
        """Run 1 + `count` + 1 tasks in three stages and return the seconds."""
        return self._send_request("first", count)

    def run_chain(self, stages: int) -> float:
        """Run tasks one after the other and return the seconds."""
        return self._send_request("chain", stages)

    def measure_latency(self) -> float:
        """Submit one task and return the seconds until its process read the clock."""
        return self._send_request("clock", 1)

    @property
    def parts(self) -> Mapping[str, int]:
        """Return the first process of each part."""
        found = {"worker": self._worker.pid, "database": self._resources.redis.pid}
        return found | ({"broker": self._resources.rabbitmq.pid} if self._engine.rabbitmq else {})

    def stop(self) -> None:
        """End the client, then the workers."""
        try:
            self._client.communicate(timeout=_PATIENCE)
            self._worker.terminate()
            self._worker.wait(_PATIENCE)
        finally:
            if self._client.poll() is None:
                self._client.kill()
            if self._worker.poll() is None:
                os.killpg(self._worker.pid, signal.SIGKILL)
            self._client.wait()
            self._worker.wait()

    def _send_request(self, what: str, count: int) -> float:
        assert self._client.stdin is not None and self._client.stdout is not None
        self._client.stdin.write(f"{what} {count}\n")
        self._client.stdin.flush()
        answer = self._client.stdout.readline()
        if not answer:
            raise RuntimeError(f"the client of {self._engine.name} ended during `{what} {count}`")
        return float(answer)


@contextmanager
def run_peer(resources: Resources, folder: Path, engine: Engine, *, results: bool) -> Iterator[Peer]:
    """Run another engine on empty servers; with `results` it stores the state of every task."""
    resources.redis.delete_all()
    if engine.rabbitmq:
        resources.empty_queues()
    peer = Peer(engine, resources, folder, results=results)
    try:
        peer.wait_ready()
        yield peer
    finally:
        peer.stop()
