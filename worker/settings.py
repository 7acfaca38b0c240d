"""What can be set about a worker. Values only; where they come from is the command's business."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from echelon.shared.lease import DEFAULT_HEARTBEAT
from echelon.shared.messages import ANY_QUEUE

MIB = 1024 * 1024


def default_slots() -> dict[str, int]:
    """Return one slot per CPU that this process may use, for tasks of every queue."""
    return {ANY_QUEUE: len(os.sched_getaffinity(0))}


def release() -> str:
    """Return the installed release of Echelon; "0" when it runs from its source alone."""
    try:
        return importlib.metadata.version("echelon")
    except importlib.metadata.PackageNotFoundError:
        return "0"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker works. Lengths of time are seconds."""

    #: Local folder, not on the volume: it tells whether an earlier life of this worker is dead.
    state_dir: Path
    #: Unique on this host; the next life of the same worker has the same name.
    name: str = field(default_factory=platform.node)
    host: str = field(default_factory=platform.node)
    #: Slots per queue name; `ANY_QUEUE` takes tasks of every queue.
    slots: Mapping[str, int] = field(default_factory=default_slots)
    #: Longest time between two signs of life; a part of the lease where that is less.
    heartbeat: float = DEFAULT_HEARTBEAT
    #: Kind of the broker's queues; the controllers' own.
    queue_type: Literal["classic", "quorum"] = "classic"
    #: How long running tasks may go on after the first request to shut down.
    drain_timeout: float = 60.0
    #: Seconds for which an earlier worker of the same name may still be ending.
    patience: float = 0.0
    #: How long a worker that has nothing left to run waits for the broker to take its last results.
    farewell_timeout: float = 5.0
    #: A granted attempt that has not started after so long is handed back.
    hand_back_after: float = 1.0
    #: Short tasks are asked for ahead of time: as many as start within so long ...
    ahead: float = 0.1
    #: ... but no more than this per slot.
    ahead_limit: int = 64
    #: Longest kept stdout or stderr of one attempt, in bytes; head and tail stay.
    log_cap: int = 16 * MIB
    #: Tells controllers and people which release this is.
    version: str = field(default_factory=release)
    #: This process has no children but its tasks, so that every stray must be a task's.
    sole_parent: bool = False
