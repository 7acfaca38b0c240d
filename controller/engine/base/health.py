"""The engine's condition, as it reports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HealthPart:
    """One of the systems that a controller leans on."""

    #: store, volume, disk, broker, catalogue, workers, processes.
    name: str
    ok: bool
    #: For people: what is wrong, or what it is.
    detail: str
    #: Without it no job can be accepted.
    needed: bool = True
    #: Without it tasks wait, and jobs are accepted all the same.
    stops_tasks: bool = False


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """The condition of all of them."""

    parts: Sequence[HealthPart]

    @property
    def ready(self) -> bool:
        """Tell whether jobs can be accepted."""
        return all(part.ok for part in self.parts if part.needed)

    @property
    def working(self) -> bool:
        """Tell whether accepted jobs run too: no task waits for a worker that is not there."""
        return all(part.ok for part in self.parts if part.needed or part.stops_tasks)
