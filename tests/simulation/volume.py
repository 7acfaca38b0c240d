"""A shared volume in memory, with faults; the names are the real ones."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

from echelon.shared.errors import VolumeUnavailable
from echelon.shared.ids import JobId
from echelon.shared.sealing import CannotOpen
from echelon.shared.volume.layout import job_name, workspace_name
from tests.simulation.world import Actor, World


class SimFiles:
    """The files, by their names; all processes see the same."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        #: Called with the name of every file that has come into a workspace.
        self.on_publish: Callable[[str], None] = lambda name: None

    def under(self, prefix: str) -> list[str]:
        return [name for name in self.content if name.startswith(prefix)]

    def visible(self, job_id: JobId) -> dict[str, str]:
        """Return the files in a job's workspace: name -> content."""
        prefix = f"{workspace_name(job_id)}/"
        return {name.removeprefix(prefix): self.content[name].decode() for name in self.under(prefix)}


class SimVolume:
    """One controller's mount: as much of `echelon.shared.volume.Volume` as an engine uses."""

    def __init__(self, files: SimFiles, *, world: World, actor: Actor) -> None:
        self._files = files
        self._world = world
        self._actor = actor

    def publish_files(self, job_id: JobId, attempt_path: str) -> tuple[str, ...]:
        """Move the files of an attempt that counts into the workspace."""
        self._strike_step()
        prefix = f"{attempt_path}/work/"
        for name in self._files.under(prefix):
            target = f"{workspace_name(job_id)}/{name.removeprefix(prefix)}"
            self._files.content[target] = self._files.content.pop(name)
            self._files.on_publish(target)
        return ()

    def open_items(self, name: str, offset: int = 0) -> BinaryIO:
        """Open the checked items of a spawn.json."""
        self._strike_step()
        if name not in self._files.content:
            raise FileNotFoundError(name)
        file = io.BytesIO(self._files.content[name])
        file.seek(offset)
        return file

    def remove_job(self, job_id: JobId) -> None:
        """Remove everything that a job has."""
        for name in self._files.under(f"{job_name(job_id)}/"):
            del self._files.content[name]

    def check_present(self) -> None:
        """Be there."""

    def _strike_step(self) -> None:
        fault = self._world.strike("volume")
        if fault is not None and fault.kind == "unavailable":
            raise VolumeUnavailable("simulated: the volume does not answer")
        self._world.suffer(self._actor, fault)


class SimSealer:
    """Writes before a text what it is sealed with: it can be told from one in clear, and opened with nothing else."""

    def __init__(self, numbers: Iterator[int] | None = None, name: str = "") -> None:
        #: Numbers of new seals.
        self._numbers = numbers
        self._prefix = f"sealed{name}:"

    def seal_text(self, text: str) -> str:
        return f"{self._prefix}{text}"

    def open_text(self, text: str) -> str:
        if not text.startswith(self._prefix):
            raise CannotOpen
        return text.removeprefix(self._prefix)

    def new_seal(self) -> str:
        assert self._numbers is not None, "only a controller makes seals"
        return self.seal_text(f"-{next(self._numbers)}")

    def open_seal(self, seal: str | None) -> SimSealer:
        return self if seal is None else SimSealer(name=self.open_text(seal))

    def digest_text(self, text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()


Wake = Callable[[], None]
