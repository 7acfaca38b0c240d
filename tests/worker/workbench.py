"""A bench for tests of the executor: a volume, an executor, and commands put on it one by one."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from echelon.shared.clock import SystemClock
from echelon.shared.ids import JobId, TaskId, new_job_id, new_task_ids, new_worker_id
from echelon.shared.messages import AttemptRef, Finished, Grant, GrantedTask, JsonValue, Recipe
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume, log_name
from echelon.shared.volume.layout import Stream, workspace_name
from echelon.shared.volume.starts import StartLog
from echelon.worker.executor import Executor, ExecutorSettings
from echelon.worker.runtimes.cgroups import make_cgroups
from echelon.worker.runtimes.port import Runtime
from echelon.worker.runtimes.process import ProcessRuntime

#: Nothing that a test waits for takes nearly as long.
PATIENCE = 20.0


class Workbench:
    """Runs single attempts and looks at what they leave."""

    def __init__(
        self,
        folder: Path,
        *,
        runtime: Runtime | None = None,
        environ: Mapping[str, str] | None = None,
        worker: str = "bench",
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.volume = Volume.create(folder / "volume")
        self.sealer = Sealer(self.volume)
        self.job_id: JobId = new_job_id()
        self.temporary = str(folder / "state")
        self.executor = Executor(
            volume=self.volume,
            runtime=runtime or ProcessRuntime(sole_parent=False),
            clock=SystemClock(),
            worker_name=worker,
            environ={"PATH": os.environ["PATH"], "HOME": "/home/x", "LANG": "C.UTF-8"} if environ is None else environ,
            settings=ExecutorSettings(temporary=self.temporary, **settings),
            starts=StartLog(self.volume, new_worker_id()),
        )
        self.ended: dict[AttemptRef, Finished] = {}
        #: What the agent answers when the executor asks it last of all, and whether the last start was refused.
        self.may_start: Callable[[], bool] = lambda: True
        self.refused = False
        self.closed = False

    def close(self) -> None:
        """End the executor."""
        self.closed = True
        self.executor.close()

    @property
    def work(self) -> Path:
        """Return the job's workspace."""
        return Path(self.volume.absolute_path(workspace_name(self.job_id)))

    def start(
        self,
        command: str,
        *arguments: str,
        index: int = 0,
        attempt: int = 1,
        job_input: Mapping[str, JsonValue] | None = None,
        task_input: Mapping[str, JsonValue] | None = None,
        sealed: Mapping[str, str] | None = None,
        seal: str | None = None,
        **recipe: Any,
    ) -> AttemptRef:
        """Start an attempt of a task of its own; `recipe` are fields of the recipe."""
        task_id: TaskId = new_task_ids(1)[0]
        task = GrantedTask(task_id, attempt, index, dict(task_input or {}))
        made = Recipe("class", command, tuple(arguments), **recipe)
        grant = Grant(
            self.job_id, 0, "Stage", "r1", "default", made, dict(job_input or {}), dict(sealed or {}), (task,), seal
        )
        self.refused = not self.executor.start_attempt(grant, task, self.may_start)
        return AttemptRef(task_id, attempt)

    def poll(self, timeout: float = 0.05) -> None:
        """Let the executor turn once."""
        for finished in self.executor.poll_ended(timeout):
            self.ended[AttemptRef(finished.task_id, finished.attempt)] = finished

    def until(self, true: Callable[[], object]) -> None:
        """Turn until something is true."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, "it never came true"
            self.poll()

    def end(self, ref: AttemptRef) -> Finished:
        """Turn until an attempt has ended, and return its end."""
        self.until(lambda: ref in self.ended)
        return self.ended[ref]

    def run(self, command: str, *arguments: str, **how: Any) -> Finished:
        """Start an attempt and wait for its end."""
        return self.end(self.start(command, *arguments, **how))

    def shell(self, script: str, **how: Any) -> Finished:
        """Run a script."""
        return self.run("sh", "-c", script, **how)

    def log(self, stream: Stream = "stdout", *, index: int = 0, attempt: int = 1) -> bytes:
        """Return what an attempt has printed."""
        file = self.volume.open_log(self.job_id, 0, index, attempt, stream)
        if file is None:
            return b""
        with file:
            return file.read()

    def log_path(self, stream: Stream = "stdout") -> Path:
        """Return where the first attempt's log lies."""
        return Path(self.volume.absolute_path(log_name(self.job_id, 0, 0, 1, stream)))


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False


def can_make_cgroups() -> bool:
    """Tell whether this user can make cgroups here."""
    made = make_cgroups(f"trial-{uuid.uuid4()}")
    if made is not None:
        made.close()
    return made is not None
