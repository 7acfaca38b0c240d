"""Real servers for tests: one named in the environment, else one started here from the machine's own binaries.

A server that is started here listens on a free port of 127.0.0.1, keeps its data in a temporary folder, and is gone
after the tests. Where there is neither, a test is skipped with a reason; where CI=true it fails instead.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.contract.certificates import Certificate

#: Seconds that a server may take to start or to stop.
PATIENCE = 60.0
_USER = "echelon"


def unavailable(reason: str) -> None:
    """Skip the test, or fail it where nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


#: Below those that Linux gives to outgoing connections: a port that is free now stays free until its server is up.
_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """Return a free TCP port."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Give the URL of a PostgreSQL server on which tests may make databases."""
    url = os.environ.get("ECHELON_TEST_POSTGRESQL_URL")
    if url:
        yield url
        return
    binaries = postgresql_binaries()
    if binaries is None:
        unavailable("no PostgreSQL: set ECHELON_TEST_POSTGRESQL_URL or install the package postgresql")
        return
    with PrivatePostgresql(binaries) as server:
        yield server.url


@contextmanager
def fresh_database(server: str, *, template: str | None = None) -> Iterator[str]:
    """Make a database of its own on a server and give its URL."""
    name = f"echelon_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    base, _, _ = server.partition("?")
    try:
        yield f"{base.rsplit('/', 1)[0]}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class PrivatePostgresql:
    """A PostgreSQL server of our own; it can be stopped, killed and started again."""

    def __init__(self, binaries: Path, *, durable: bool = False) -> None:
        self._binaries = binaries
        self._home = Path(tempfile.mkdtemp(prefix="echelon-postgresql-"))
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"postgresql://{_USER}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> PrivatePostgresql:
        if os.getuid() == 0:
            shutil.chown(self._home, "postgres", "postgres")
        self._run("initdb", "-D", str(self._data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def home(self) -> Path:
        """Return the folder of its data and log."""
        return self._home

    @property
    def pid(self) -> int:
        """Return the server's first process."""
        assert self._process is not None
        return self._process.pid

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [
            *_dying_with_us(), str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._home}",
            "-c", f"fsync={'on' if self._durable else 'off'}", "-c", "max_connections=60",
        ]  # fmt: skip
        log = (self._home / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_as_server_user())
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, "PostgreSQL did not start"
                # The server offers nothing to wait on; a failed connection is refused at once.
                self._pause()

    def speak_tls(self, certificate: Certificate) -> None:
        """Offer TLS to new connections, with a certificate that is copied."""
        self.stop(signal.SIGINT)
        for source, name in ((certificate.file, "server.crt"), (certificate.key, "server.key")):
            shutil.copyfile(source, self._data / name)
            (self._data / name).chmod(0o600)
            if os.getuid() == 0:
                shutil.chown(self._data / name, "postgres", "postgres")
        with (self._data / "postgresql.auto.conf").open("a") as file:
            file.write("ssl = on\n")
        self.start()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server: SIGQUIT is its immediate shutdown, SIGINT its fast one, SIGKILL a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, **_as_server_user())

    def _pause(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(0.05)
        except subprocess.TimeoutExpired:
            return


def _dying_with_us() -> list[str]:
    """Return what ends a server when the test run is killed; for the kernel the thread that starts it is its parent."""
    if threading.current_thread() is not threading.main_thread():
        # The kernel sends that signal when the thread ends that started the process, and others end before the tests.
        return []
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "QUIT"] if setpriv else []


def _as_server_user() -> dict[str, object]:
    """Return how to start a program that refuses to run as root."""
    if os.getuid() != 0:
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}


def postgresql_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL of the machine."""
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    return folders[-1].parent if folders else None
