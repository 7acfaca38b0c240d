"""The folder and the servers of all contestants. The servers use free ports and stop at the end.

PostgreSQL and RabbitMQ are started like those of the tests (`tests/contract`). The bench removes no files while it
runs: after many files were deleted, a file system is slower for a while.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Self

from pika import BlockingConnection, URLParameters

from echelon.shared.messages import REPORTS
from tests.contract.rabbit import PrivateRabbitmq, rabbitmq_binaries
from tests.contract.servers import PATIENCE, PrivatePostgresql, free_port, postgresql_binaries
from tests.system.process import until

#: Server -> Debian's package.
PACKAGES = {"rabbitmq": "rabbitmq-server", "postgresql": "postgresql", "redis": "redis-server"}
#: Queues that outlive a contestant; their messages must not reach the next one.
_QUEUES = (REPORTS, "celery", "default", "default.DQ", "default.XQ")


def find_missing_servers(wanted: frozenset[str]) -> list[str]:
    """Return the Debian packages of the servers that this machine lacks."""
    here = {
        "rabbitmq": rabbitmq_binaries() is not None,
        "postgresql": postgresql_binaries() is not None,
        "redis": shutil.which("redis-server") is not None,
    }
    return sorted(PACKAGES[server] for server in wanted if not here[server])


class Resources:
    """One folder, and servers that start at their first use and run until the end."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="echelon-bench-", dir=folder))
        # PostgreSQL refuses to run as root, so its own user has to reach its folder.
        self.folder.chmod(0o755)
        self._stack = ExitStack()
        self._folders = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_folder(self, name: str) -> Path:
        """Make an empty folder for one run of a contestant."""
        self._folders += 1
        folder = self.folder / f"{self._folders:03}-{name}"
        folder.mkdir()
        return folder

    @cached_property
    def rabbitmq(self) -> PrivateRabbitmq:
        """Return a RabbitMQ with its default settings."""
        binaries = rabbitmq_binaries()
        assert binaries is not None
        return self._stack.enter_context(PrivateRabbitmq(binaries))

    @cached_property
    def postgresql(self) -> PrivatePostgresql:
        """Return a PostgreSQL with its default settings; it syncs."""
        binaries = postgresql_binaries()
        assert binaries is not None
        return self._stack.enter_context(PrivatePostgresql(binaries, durable=True))

    @cached_property
    def redis(self) -> PrivateRedis:
        """Return a Redis with its default settings."""
        folder = self.folder / "redis"
        folder.mkdir()
        return self._stack.enter_context(PrivateRedis(folder))

    def empty_queues(self) -> None:
        """Delete the queues that an earlier contestant may have left at the broker."""
        with BlockingConnection(URLParameters(self.rabbitmq.url)) as connection:
            channel = connection.channel()
            for queue in _QUEUES:
                channel.queue_delete(queue)


class PrivateRedis:
    """A Redis server of the bench."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._is_ready, "Redis answers")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)

    @property
    def pid(self) -> int:
        """Return the server's process id."""
        assert self._process is not None
        return self._process.pid

    def delete_all(self) -> None:
        """Delete all data."""
        assert self._send_command(b"FLUSHALL\r\n").startswith(b"+OK")

    def _is_ready(self) -> bool:
        try:
            return self._send_command(b"PING\r\n").startswith(b"+PONG")
        except OSError:
            return False

    def _send_command(self, words: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
            connection.sendall(words)
            return connection.recv(64)
