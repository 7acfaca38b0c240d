"""A real RabbitMQ for tests: one named in the environment, else a node of our own on free ports, with its data in a
temporary folder and an epmd of its own, so that it meets no other node of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pika
import pytest

from echelon.shared.broker.topology import SIGNATURE
from echelon.shared.signing import Signer
from tests.contract.certificates import Certificate
from tests.contract.servers import PATIENCE, free_port, unavailable

#: Signs what tests send and read without a volume.
SIGNER = Signer(b"the key of tests")
#: Runs a command and kills its whole process group when our end of its stdin is closed: a test run that is killed
#: leaves nothing behind. SIGTERM is for the command; this shell only waits for what becomes of it.
GUARDED = """
exec 3<&0
(trap '' TERM; read _ <&3; kill -KILL 0) &
trap : TERM
"$@" <&- 3<&- &
command=$!
while kill -0 $command 2>&-; do wait $command; done
"""


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[str]:
    """Give the URL of a RabbitMQ server that tests may use."""
    url = os.environ.get("ECHELON_TEST_RABBITMQ_URL")
    if url:
        yield url
        return
    binaries = rabbitmq_binaries()
    if binaries is None:
        unavailable("no RabbitMQ: set ECHELON_TEST_RABBITMQ_URL or install the package rabbitmq-server")
        return
    with PrivateRabbitmq(binaries) as server:
        yield server.url


def signed(queue: str, body: bytes, signer: Signer = SIGNER) -> pika.BasicProperties:
    """Return what makes a raw body a message of the engine's."""
    return pika.BasicProperties(headers={SIGNATURE: signer.sign_body(queue, body)})


def rabbitmq_binaries() -> Path | None:
    """Return the folder of RabbitMQ's scripts; None when there is none."""
    # Debian's /usr/sbin/rabbitmq-server changes to a user of its own; the script behind it does not.
    behind = Path("/usr/lib/rabbitmq/bin")
    if (behind / "rabbitmq-server").exists() and shutil.which("epmd"):
        return behind
    found = shutil.which("rabbitmq-server")
    return Path(found).resolve().parent if found and shutil.which("epmd") else None


class PrivateRabbitmq:
    """A RabbitMQ node of our own; it can be stopped, killed and started again."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._home = Path(tempfile.mkdtemp(prefix="echelon-rabbitmq-"))
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None
        self.port, self.tls_port = free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        epmd_port = str(free_port())
        plugins = self._home / "plugins"
        plugins.write_text("[].\n")
        self._environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(self._home),
            "ERL_EPMD_PORT": epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"echelon{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._home / "data"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_PID_FILE": str(self._home / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
        }

    def __enter__(self) -> PrivateRabbitmq:
        epmd = shutil.which("epmd")
        assert epmd is not None
        self._epmd = self._guarded(epmd)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)
        if self._epmd is not None:
            _end(self._epmd, signal.SIGKILL)
        shutil.rmtree(self._home, ignore_errors=True)

    def configure(self, line: str) -> None:
        """Add a line to the node's configuration, before it is started."""
        with (self._home / "rabbitmq.conf").open("a") as file:
            file.write(line + "\n")

    def define_users(self, permissions: Mapping[str, tuple[str, str, str]]) -> None:
        """Define users, each with its own name as its password, before the node is started; guest may do everything."""
        rights = {"guest": (".*", ".*", ".*")} | dict(permissions)
        file = self._home / "definitions.json"
        definitions = {
            "vhosts": [{"name": "/"}],
            "users": [{"name": one, "password": one, "tags": ""} for one in rights],
            "permissions": [
                {"user": one, "vhost": "/", "configure": configure, "write": write, "read": read}
                for one, (configure, write, read) in rights.items()
            ],
        }
        file.write_text(json.dumps(definitions))
        self.configure(f"load_definitions = {file}")

    def speak_tls(self, certificate: Certificate) -> None:
        """Also listen with TLS at `tls_port`, before the node is started."""
        self.configure(f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}")
        self.configure(f"ssl_options.certfile = {certificate.file}")
        self.configure(f"ssl_options.keyfile = {certificate.key}")
        self.configure("ssl_options.verify = verify_none")

    def start(self) -> None:
        """Start the node and wait until it takes connections."""
        self._node = self._guarded(str(self._binaries / "rabbitmq-server"))
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._node.poll() is None and time.monotonic() < deadline, (self._home / "output").read_text()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._node.wait(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the node: SIGTERM politely, SIGKILL as a crash."""
        if self._node is not None:
            _end(self._node, how)
            self._node = None

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Let the node stand still within the block: its connections stay open, and nothing is answered."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    @property
    def home(self) -> Path:
        """Return the folder of its data, configuration and logs."""
        return self._home

    @property
    def pid(self) -> int:
        """Return the process that guards the node: the node is below it."""
        assert self._node is not None
        return self._node.pid

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it says."""
        command = [str(self._binaries / "rabbitmqctl"), "-n", self._environ["RABBITMQ_NODENAME"], *arguments]
        done = subprocess.run(command, env=self._environ, check=True, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout

    def _guarded(self, command: str) -> subprocess.Popen[bytes]:
        with (self._home / "output").open("ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", GUARDED, "sh", command],
                env=self._environ,
                cwd=self._home,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        """Tell whether the node greets: it closes at once what does not speak AMQP, with its own protocol header."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as connection:
                connection.sendall(b"HTTP????")
                return connection.recv(8).startswith(b"AMQP")
        except OSError:
            return False


def _end(guarded: subprocess.Popen[bytes], how: signal.Signals) -> None:
    os.killpg(guarded.pid, how)
    guarded.wait(PATIENCE)
    assert guarded.stdin is not None
    guarded.stdin.close()
