"""Adapters between the real loops and the world: stops that let a loop turn once, and status files on the volume."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from echelon.shared.errors import Unavailable
from echelon.shared.lease import STATUS_FRESH_FOR
from echelon.shared.messages import AttemptRef
from tests.simulation.world import World


class OneTurn:
    """A stop that is set after one turn of a loop, and notes how long the loop would have waited after a failure."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._asked = 0
        self.back_off: float | None = None

    @property
    def event(self) -> threading.Event:
        """Return this in the shape that a loop takes."""
        return cast(threading.Event, self)

    def is_set(self) -> bool:
        self._asked += 1
        return self._asked > 1

    def wait(self, timeout: float) -> bool:
        """Hear of a failed turn: the store may be away, everything else is a mistake of ours."""
        self.back_off = timeout
        error = sys.exc_info()[1]
        if isinstance(error, Unavailable):
            self._world.log(self._name, f"waits: {error}")
        elif error is not None:
            self._world.violate("bug", f"{self._name}: {''.join(traceback.format_exception(error, limit=-6))}")
        return True


@dataclass
class Signs:
    """The status files that controllers keep on the volume."""

    world: World
    shown: dict[str, tuple[float, bool]] = field(default_factory=dict)
    #: Attempts that were ended although no message could say so.
    stops: set[AttemptRef] = field(default_factory=set)

    #: Life of a worker -> what it has started, as its file on the volume says.
    starts: dict[str, dict[AttemptRef, float]] = field(default_factory=dict)

    def find_starts(self, worker: str) -> Mapping[AttemptRef, float] | None:
        """Return what a life of a worker has started."""
        return self.starts.get(worker)

    def write_stops(self, refs: Iterable[AttemptRef]) -> None:
        """Write a stop file for each attempt."""
        self.stops.update(refs)

    def is_stopped(self, ref: AttemptRef) -> bool:
        """Tell whether an attempt has lost its claim."""
        return ref in self.stops

    def any_controller_able(self) -> bool:
        """Tell whether some controller has said lately that it could take tasks away."""
        return any(able for at, able in self.shown.values() if self.world.now - at <= STATUS_FRESH_FOR)


@dataclass
class SimStatusFile:
    """One controller's status file."""

    signs: Signs
    name: str

    def write(self, *, able: bool) -> None:
        """Say that this controller lives."""
        self.signs.shown[self.name] = self.signs.world.now, able

    def remove(self) -> None:
        """Remove the file."""
        self.signs.shown.pop(self.name, None)
