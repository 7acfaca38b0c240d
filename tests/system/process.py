"""A real standalone in a process of its own, to be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from echelon.controller.client import Client
from echelon.shared.errors import EchelonError
from tests.contract.servers import free_port

#: Seconds that a machine under load may take for what is usually done at once.
PATIENCE = 60.0


def until(done: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for something that another process does; fail with its name when it does not come."""
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain until {what}"
        # Between two looks at another process there is nothing to wait on.
        time.sleep(0.02)


class Standalone:
    """`echelon standalone` on a folder; each `start` is a new life."""

    def __init__(self, folder: Path, catalogue: str, *arguments: str) -> None:
        self.name = "standalone"
        self.folder = folder
        self.volume = folder / "volume"
        self.catalogue = folder / "catalogue.yaml"
        self.catalogue.write_text(catalogue)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = Client(self.url)
        self.log = folder / "log"
        self.prefix: list[str] = []
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        """Return the process that was started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Begin a life and wait until it is ready."""
        command = [sys.executable, "-m", "echelon.shared.command", "standalone", "--catalogue", str(self.catalogue)]
        command += ["--volume", str(self.volume), "--listen", f"127.0.0.1:{self.port}", *self._arguments]
        environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(self.folder)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.prefix + command, stdout=log, stderr=log, env=environ, start_new_session=True
            )
        until(self._ready, f"the engine is ready; its log: {self.log}")

    def _ready(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()
        try:
            return bool(self.client.get_health()["ready"])
        except EchelonError:
            return False

    def kill(self) -> None:
        """End the life without a chance to tidy up: server, its worker process, everything but the tasks."""
        os.killpg(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(PATIENCE)

    def kill_first(self) -> None:
        """End the process that was started, and it alone: the one that it watches has to notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def terminate(self) -> int:
        """Ask it to end and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(PATIENCE)

    def state(self, job_id: str) -> str:
        """Return a job's state."""
        return str(self.client.get_job(job_id)["state"])

    def ended(self, job_id: str) -> str:
        """Wait for a job's end and return its state."""
        until(lambda: self.state(job_id) not in ("PENDING", "RUNNING"), f"job {job_id} ends")
        return self.state(job_id)
