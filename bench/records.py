"""The measurements of a run, as records and as a JSON file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Record:
    """One measurement of one contestant in one round."""

    bench: str
    contestant: str
    #: The bench's variable: tasks, stages, clients or finished tasks in the store; 0 if it has none.
    size: int
    round: int
    #: "seconds", "rate", "cpu.worker" (seconds), "rss.controller" (MiB), ...
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """The load of the machine by other programs, before a contestant started."""

    at: str
    before: str
    #: Mean number of runnable processes over the last minute, including the bench's own.
    average: float
    #: Busy cores while no contestant ran.
    busy: float


@dataclass(slots=True)
class Run:
    """One run: its circumstances and its measurements."""

    made: str
    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, str]
    seconds: float = 0.0
    loads: list[Load] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    #: Failed steps with their errors; the run continued without them.
    failures: list[str] = field(default_factory=list)

    def find_records(self, bench: str, contestant: str | None = None, size: int | None = None) -> list[Record]:
        """Return the measurements of one bench, in the order of their rounds."""
        return [
            record
            for record in self.records
            if record.bench == bench and contestant in (None, record.contestant) and size in (None, record.size)
        ]


def list_sizes(records: Iterable[Record]) -> list[int]:
    """Return the sizes in these records, the smallest first."""
    return sorted({record.size for record in records})


def list_contestants(records: Iterable[Record]) -> list[str]:
    """Return the contestants in these records, in the order of their first measurement."""
    return list(dict.fromkeys(record.contestant for record in records))


def save_run(run: Run, path: Path) -> None:
    """Write a run as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def load_run(path: Path) -> Run:
    """Read a saved run."""
    return msgspec.json.decode(path.read_bytes(), type=Run)
