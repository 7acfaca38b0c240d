"""Measures a process: memory, open files, threads, and zombies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Stands in the command line of every process of Echelon, and of no task's.
_OURS = b"echelon.shared.command"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Gauge:
    """One look at one process."""

    #: Bytes.
    memory: int
    files: int
    threads: int


def processes_of(pid: int) -> Iterator[int]:
    """Yield a program's process and those of Echelon that it has started, not those of tasks."""
    yield pid
    for child in children_of(pid):
        if _OURS in _read(child, "cmdline"):
            yield from processes_of(child)


def children_of(pid: int) -> list[int]:
    """Return the children that a process has at the moment."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []
    return [int(child) for thread in threads for child in _read(pid, f"task/{thread}/children").split()]


def gauge(pid: int) -> Gauge:
    """Look at a process; raises OSError when it is gone."""
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return Gauge(memory, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


def zombies_of(pid: int) -> set[int]:
    """Return the children of a process that have ended and that it has not buried."""
    return {child for child in children_of(pid) if b"\nState:\tZ" in _read(child, "status")}


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
