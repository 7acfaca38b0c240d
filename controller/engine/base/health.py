"""The engine's condition, as it reports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HealthPart:
    """One of the systems that a controller leans on."""

    #: store, broker, volume, catalogue, processes.
    name: str
    ok: bool
    #: For people: what is wrong, or what it is.
    detail: str
    #: Without it no job can be taken and run; otherwise this is a warning.
    needed: bool = True


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """The condition of all of them."""

    parts: Sequence[HealthPart]

    @property
    def ready(self) -> bool:
        """Tell whether jobs can be taken and run."""
        return all(part.ok for part in self.parts if part.needed)
