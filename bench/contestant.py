"""The interface between the bench and its contestants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.resources import Resources

FAN_OUT, CHAIN, LATENCY = "fan-out", "chain", "latency"
API, GROWTH, MEMORY, VERBS = "api", "growth", "memory", "verbs"
#: Derived from the fan-out's own records.
PARTS = "parts"
BENCHES = (FAN_OUT, CHAIN, LATENCY, API, GROWTH, MEMORY, VERBS, PARTS)


class RunningContestant(Protocol):
    """A contestant that is up and idle. Seconds are wall time from submit to the stored end."""

    def run_fan_out(self, count: int) -> float:
        """Run 1 + `count` + 1 tasks in three stages and return the seconds."""

    def run_chain(self, stages: int) -> float:
        """Run stages of one task each and return the seconds."""

    def measure_latency(self) -> float:
        """Submit one task and return the seconds until its process read the clock."""

    @property
    def parts(self) -> Mapping[str, int]:
        """Return the first process of each part: "controller", "worker 1", "worker 2", "broker", "database"."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A contestant and its benches."""

    name: str
    #: Its name in tables.
    title: str
    benches: frozenset[str]
    #: The servers it needs: "rabbitmq", "postgresql", "redis".
    servers: frozenset[str]
    #: Rough tasks a second and seconds to start: only to estimate the time.
    pace: float
    start: float
    #: Starts it in an empty folder of its own.
    open: Callable[[Resources, Path], AbstractContextManager[RunningContestant]]
