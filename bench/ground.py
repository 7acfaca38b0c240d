"""What all contestants stand on: one folder, and servers of the bench's own on free ports, stopped at the end.

PostgreSQL and RabbitMQ are the ones that the tests start (`tests/contract`). Nothing is removed while the bench runs:
after many files were deleted, a file system is slower for a while.
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
#: Queues that outlive a contestant's life; what lies in them must not reach the next one.
_QUEUES = (REPORTS, "celery", "default", "default.DQ", "default.XQ")


def missing_servers(wanted: frozenset[str]) -> list[str]:
    """Return the Debian packages of those servers that this machine lacks."""
    here = {
        "rabbitmq": rabbitmq_binaries() is not None,
        "postgresql": postgresql_binaries() is not None,
        "redis": shutil.which("redis-server") is not None,
    }
    return sorted(PACKAGES[server] for server in wanted if not here[server])


class Ground:
    """Servers that start when they are first asked for, and run until the end."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="echelon-bench-", dir=folder))
        # PostgreSQL refuses to run as root, and its own user has to reach its folder.
        self.folder.chmod(0o755)
        self._stack = ExitStack()
        self._lives = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh_folder(self, name: str) -> Path:
        """Return an empty folder for one life of a contestant."""
        self._lives += 1
        folder = self.folder / f"{self._lives:03}-{name}"
        folder.mkdir()
        return folder

    @cached_property
    def rabbitmq(self) -> PrivateRabbitmq:
        """Return a RabbitMQ as its package has it."""
        binaries = rabbitmq_binaries()
        assert binaries is not None
        return self._stack.enter_context(PrivateRabbitmq(binaries))

    @cached_property
    def postgresql(self) -> PrivatePostgresql:
        """Return a PostgreSQL that syncs, as its package has it."""
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
        """Throw away what an earlier life may have left at the broker."""
        with BlockingConnection(URLParameters(self.rabbitmq.url)) as connection:
            channel = connection.channel()
            for queue in _QUEUES:
                channel.queue_delete(queue)


class PrivateRedis:
    """A Redis server of our own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._answers, "Redis answers")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)

    @property
    def pid(self) -> int:
        """Return the server's process."""
        assert self._process is not None
        return self._process.pid

    def empty(self) -> None:
        """Forget everything."""
        assert self._say(b"FLUSHALL\r\n").startswith(b"+OK")

    def _answers(self) -> bool:
        try:
            return self._say(b"PING\r\n").startswith(b"+PONG")
        except OSError:
            return False

    def _say(self, words: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
            connection.sendall(words)
            return connection.recv(64)
