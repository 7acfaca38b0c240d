"""What the bench asks of whoever takes part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.ground import Ground

FAN_OUT, CHAIN, LATENCY = "fan-out", "chain", "latency"
API, GROWTH, MEMORY, VERBS = "api", "growth", "memory", "verbs"
#: Derived from the fan-out's own records.
PARTS = "parts"
BENCHES = (FAN_OUT, CHAIN, LATENCY, API, GROWTH, MEMORY, VERBS, PARTS)


class Up(Protocol):
    """A contestant that is up and has nothing to do. Seconds are wall time from submit to the stored end."""

    def fan_out(self, count: int) -> float:
        """Run 1 + `count` + 1 tasks in three stages and return the seconds."""

    def chain(self, stages: int) -> float:
        """Run stages of one task each and return the seconds."""

    def latency(self) -> float:
        """Submit one task and return the seconds until its process read the clock."""

    @property
    def parts(self) -> Mapping[str, int]:
        """Return the first process of each part: "controller", "worker 1", "worker 2", "broker", "database"."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who takes part, and in what."""

    name: str
    #: For people.
    title: str
    benches: frozenset[str]
    #: Servers it needs: "rabbitmq", "postgresql", "redis".
    servers: frozenset[str]
    #: Tasks a second and seconds to start, roughly: for the expected time alone.
    pace: float
    start: float
    #: Starts it on an empty folder of its own.
    open: Callable[[Ground, Path], AbstractContextManager[Up]]
