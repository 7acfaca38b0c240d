"""A cluster of real processes: controllers and workers, a RabbitMQ and a PostgreSQL (or SQLite) of its own, and a proxy
on every link between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg

from echelon.controller.client import Client
from echelon.controller.datastore.open import migrate_datastore
from echelon.shared.errors import EchelonError
from tests.contract.rabbit import PrivateRabbitmq, rabbitmq_binaries
from tests.contract.servers import PrivatePostgresql, free_port, postgresql_binaries, unavailable
from tests.system.diary import keep_diary
from tests.system.process import until
from tests.system.proxy import Link, Proxies

ROOT = Path(__file__).parents[2]
#: Short constants, so that many faults fit into a minute.
LEASE, HEARTBEAT = 6.0, 1.5
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts and settings of a cluster."""

    controllers: int = 2
    workers: int = 3
    slots: int = 4
    datastore: str = "postgresql"
    lease: float = LEASE
    heartbeat: float = HEARTBEAT
    max_losses: int = 50
    drain_timeout: float = 2.0
    queue_type: str = "classic"
    #: The database writes down every change of a state; nothing ever removes that.
    diary: bool = True
    #: RabbitMQ's users `controller` and `worker` have these permissions: configure, write, read. None: one may do all.
    permissions: Mapping[str, tuple[str, str, str]] | None = None
    #: Stands before the command of every controller and worker.
    prefix: tuple[str, ...] = ()


@dataclass
class Life:
    """One life of a program: from when until when, and when it stood still."""

    born: float
    died: float | None = None
    pauses: list[tuple[float, float]] = field(default_factory=list)
    worker_id: str | None = None


class Program:
    """A process of Echelon, in a session of its own; each `start` is a new life. Moments are Unix times."""

    def __init__(self, name: str, command: list[str], environ: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.links: dict[str, Link] = {}
        self.lives: list[Life] = []
        self.environ = dict(environ)
        self._command, self._folder = command, folder
        self.prefix: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: float | None = None

    def start(self, **environ: str) -> None:
        """Begin a life, with more in its environment than all its lives have."""
        command = [*self.prefix, sys.executable, "-m", "echelon.shared.command", *self._command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**self.environ, **environ},
                cwd=self._folder, start_new_session=True,
            )  # fmt: skip
        self.lives.append(Life(time.time()))

    @property
    def pid(self) -> int:
        """Return the process of the present life."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it lives."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the life at once; what it has started in other sessions goes on."""
        if self.running:
            self.signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and return the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self.go_on()
        if self.lives[-1].died is None:
            self.lives[-1].died = time.time()
        return code

    def pause(self) -> None:
        """Let it stand still."""
        if self._paused is None and self.running:
            self._paused = time.time()
            self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        if self._paused is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.lives[-1].pauses.append((self._paused, time.time()))
            self._paused = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole session."""
        os.killpg(self.pid, number)


class Cluster:
    """Everything of one run, started by entering it."""

    def __init__(
        self, folder: Path, catalogue: str, shape: Shape | None = None, *, consumer_timeout: int | None = None
    ) -> None:
        self.folder = folder
        self.shape = shape or Shape()
        self.volume = folder / "volume"
        self.catalogue = folder / "catalogue.yaml"
        self.catalogue.write_text(catalogue)
        self._consumer_timeout = consumer_timeout
        self._stack = ExitStack()
        self.controllers: list[Program] = []
        self.workers: list[Program] = []
        self.urls: list[str] = []
        self.postgresql: PrivatePostgresql | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._open()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        rabbit, postgresql = rabbitmq_binaries(), postgresql_binaries()
        if rabbit is None or (postgresql is None and self.shape.datastore == "postgresql"):
            unavailable("no RabbitMQ or no PostgreSQL of our own: install the packages rabbitmq-server and postgresql")
        assert rabbit is not None
        self.rabbit = PrivateRabbitmq(rabbit)
        if self._consumer_timeout is not None:
            self.rabbit.configure(f"consumer_timeout = {self._consumer_timeout}")
        if self.shape.permissions is not None:
            self.rabbit.define_users(self.shape.permissions)
        self._stack.enter_context(self.rabbit)
        self._proxies = self._stack.enter_context(Proxies())
        self.database = self._make_database(postgresql)
        migrate_datastore(self.database)
        if self.shape.diary:
            keep_diary(self.database)
        self._stack.callback(self._end_programs)
        for number in range(1, self.shape.controllers + 1):
            self.controllers.append(self._make_controller(f"controller{number}"))
        for program in self.controllers:
            program.start()
        until(lambda: self.answering(self.urls[0]), "the first controller answers")
        for number in range(1, self.shape.workers + 1):
            self.workers.append(self._make_worker(f"worker{number}"))
            self.workers[-1].start()
        until(self.ready, f"the cluster is ready; its logs: {self.folder}")

    def _make_database(self, binaries: Path | None) -> str:
        if self.shape.datastore != "postgresql":
            return f"sqlite:///{self.folder / 'echelon.db'}"
        assert binaries is not None
        self.postgresql = self._stack.enter_context(PrivatePostgresql(binaries))
        return self.postgresql.url

    def _make_controller(self, name: str) -> Program:
        broker = self._proxies.link(self.rabbit.port)
        environ, datastore, links = self._make_environment(), self.database, {"broker": broker}
        if self.postgresql is not None:
            links["datastore"] = self._proxies.link(self.postgresql.port)
            datastore = datastore.replace(f":{self.postgresql.port}/", f":{links['datastore'].port}/")
        port = free_port()
        self.urls.append(f"http://127.0.0.1:{port}")
        environ |= {
            "ECHELON_BROKER": self._broker_url(broker, "controller"), "ECHELON_DATASTORE": datastore,
            "ECHELON_LEASE": f"{self.shape.lease:g}",
            "ECHELON_HEARTBEAT": f"{self.shape.heartbeat:g}", "ECHELON_MAX_LOSSES": str(self.shape.max_losses),
            "ECHELON_QUEUE_TYPE": self.shape.queue_type,
        }  # fmt: skip
        arguments = [
            "controller",
            "--catalogue",
            str(self.catalogue),
            "--volume",
            str(self.volume),
            "--listen",
            f"127.0.0.1:{port}",
        ]
        program = Program(name, arguments, environ, self.folder)
        program.links, program.prefix = links, self.shape.prefix
        return program

    def _make_worker(self, name: str) -> Program:
        broker = self._proxies.link(self.rabbit.port)
        environ = self._make_environment() | {
            "ECHELON_BROKER": self._broker_url(broker, "worker"), "ECHELON_HEARTBEAT": f"{self.shape.heartbeat:g}",
            "ECHELON_DRAIN_TIMEOUT": f"{self.shape.drain_timeout:g}", "ECHELON_QUEUE_TYPE": self.shape.queue_type,
        }  # fmt: skip
        arguments = [
            "worker",
            "--volume",
            str(self.volume),
            "--name",
            name,
            "--state-dir",
            str(self.folder / "state" / name),
        ]
        program = Program(name, [*arguments, "--queue", f"default:{self.shape.slots}"], environ, self.folder)
        program.links, program.prefix = {"broker": broker}, self.shape.prefix
        return program

    def _make_environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "ECHELON_MIN_FREE") if name in os.environ}
        return kept | {"PYTHONPATH": str(ROOT), "HOME": str(self.folder), "TMPDIR": str(self._make_temporary())}

    def _make_temporary(self) -> Path:
        path = self.folder / "tmp"
        path.mkdir(exist_ok=True)
        return path

    def _broker_url(self, link: Link, user: str) -> str:
        url = self.rabbit.url.replace(f":{self.rabbit.port}/", f":{link.port}/")
        return url if self.shape.permissions is None else url.replace("guest:guest", f"{user}:{user}")

    def _end_programs(self) -> None:
        for program in [*self.controllers, *self.workers]:
            if program.lives:
                program.kill()

    # --- looking

    @property
    def programs(self) -> list[Program]:
        """Return controllers and workers."""
        return [*self.controllers, *self.workers]

    def answering(self, url: str) -> bool:
        """Tell whether a controller answers at all, ready or not."""
        try:
            with Client(url, timeout=5.0) as client:
                client.get_health()
            return True
        except EchelonError:
            return False

    def ready(self) -> bool:
        """Tell whether every controller is ready and every worker is up."""
        try:
            for url in self.urls:
                with Client(url, timeout=5.0) as client:
                    if not client.get_health()["ready"]:
                        return False
                    up = {worker["name"] for worker in client.list_workers() if worker["state"] == "UP"}
                    if up != {worker.name for worker in self.workers}:
                        return False
        except EchelonError:
            return False
        return True

    def client(self, number: int = 0) -> Client:
        """Return a client of one controller; the cluster's end closes it."""
        return self._stack.enter_context(Client(self.urls[number]))

    def stranger(self, name: str, *arguments: str) -> Program:
        """Return a program that is not one of the cluster's; its caller starts it and waits for its end."""
        return Program(name, list(arguments), self._make_environment(), self.folder)

    def note_lives(self) -> None:
        """Read which life each worker leads: the last one in its lock file is the one that holds it."""
        for worker in self.workers:
            path = self.folder / "state" / worker.name / f"worker-{worker.name}.lock"
            with suppress(OSError, IndexError):
                last = path.read_text().split()[-1]
                if worker.lives and all(life.worker_id != last for life in worker.lives):
                    worker.lives[-1].worker_id = last

    def turn_to(self, queue_type: str, programs: Iterable[Program]) -> None:
        """Start programs again, with another type of queues from now on."""
        for program in programs:
            program.kill()
            program.environ["ECHELON_QUEUE_TYPE"] = queue_type
            program.start()

    def heal(self) -> None:
        """Take every fault away that a link may have."""
        for program in self.programs:
            for link in program.links.values():
                link.heal()

    def psql(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement on the cluster's own PostgreSQL, past every proxy."""
        with psycopg.connect(self.database, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
