"""What a run has measured, as records and as a JSON file."""

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
    #: Tasks, stages, clients or finished tasks in the store: what the bench varies; 0 where it varies nothing.
    size: int
    round: int
    #: "seconds", "rate", "cpu.worker" (seconds), "rss.controller" (MiB), ...
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """What the machine did beside the bench, before a contestant started."""

    at: str
    before: str
    #: Mean number of runnable processes over the last minute; what the bench itself did is in it.
    average: float
    #: Cores that were busy while no contestant ran.
    busy: float


@dataclass(slots=True)
class Run:
    """Everything of one run."""

    made: str
    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, str]
    seconds: float = 0.0
    loads: list[Load] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    #: Steps that went wrong, and why; the run went on without them.
    failures: list[str] = field(default_factory=list)

    def of(self, bench: str, contestant: str | None = None, size: int | None = None) -> list[Record]:
        """Return the measurements of one bench, in the order of their rounds."""
        return [
            record
            for record in self.records
            if record.bench == bench and contestant in (None, record.contestant) and size in (None, record.size)
        ]


def sizes(records: Iterable[Record]) -> list[int]:
    """Return the sizes that occur, the smallest first."""
    return sorted({record.size for record in records})


def contestants(records: Iterable[Record]) -> list[str]:
    """Return the contestants that occur, in the order of their first measurement."""
    return list(dict.fromkeys(record.contestant for record in records))


def save(run: Run, path: Path) -> None:
    """Write a run as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def load(path: Path) -> Run:
    """Read a run that was saved."""
    return msgspec.json.decode(path.read_bytes(), type=Run)
