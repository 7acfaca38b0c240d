"""The settings of a worker, and the options of `echelon worker`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from echelon.shared.address import Address, read_address
from echelon.shared.lease import DEFAULT_HEARTBEAT
from echelon.shared.logs import FORMATS
from echelon.shared.messages import ANY_QUEUE
from echelon.shared.readers import at_least, one_of, read_seconds, read_size
from echelon.shared.settings import (
    WORKER_TABLE,
    InvalidSetting,
    Layer,
    declare_setting,
    file_layer,
    find_settings,
    settings_of,
)

MIB = 1024 * 1024
#: Settings that the config file may have only in the workers' own table.
_OWN = {"metrics", "name", "queue", "state_dir"}


def default_slots() -> dict[str, int]:
    """Return one slot per CPU that this process may use, for tasks of every queue."""
    return {ANY_QUEUE: len(os.sched_getaffinity(0))}


def installed_release() -> str:
    """Return the installed release of Echelon; "0" if it is not installed."""
    try:
        return importlib.metadata.version("echelon")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _default_state_dir() -> Path:
    import platformdirs

    return platformdirs.user_state_path("echelon")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of one worker. Durations are seconds."""

    #: Local folder, not on the volume, of the lock file that shows whether an earlier incarnation is dead.
    state_dir: Path
    #: Unique on this host; the next incarnation of the same worker has the same name.
    name: str = field(default_factory=platform.node)
    host: str = field(default_factory=platform.node)
    #: Slots per queue name; `ANY_QUEUE` takes tasks of every queue.
    slots: Mapping[str, int] = field(default_factory=default_slots)
    #: Longest time between two heartbeats; a part of the lease if that is less.
    heartbeat: float = DEFAULT_HEARTBEAT
    #: Kind of the broker's queues; the same as the controllers'.
    queue_type: Literal["classic", "quorum"] = "classic"
    #: How long running tasks may go on after the first shutdown request.
    drain_timeout: float = 60.0
    #: Longest wait for the end of an earlier incarnation.
    patience: float = 0.0
    #: How long a drained worker waits for the broker to confirm its last reports.
    deregister_timeout: float = 5.0
    #: A granted attempt that has not started after this time is handed back.
    hand_back_after: float = 1.0
    #: Short tasks are asked for ahead: as many as start within this time ...
    ahead: float = 0.1
    #: ... but at most so many per slot.
    ahead_limit: int = 64
    #: Size limit of one attempt's stdout, and of its stderr, in bytes; head and tail are kept.
    log_cap: int = 16 * MIB
    #: This release, for controllers and users.
    version: str = field(default_factory=installed_release)
    #: This process has no children but its tasks, so every orphan must be a task's.
    sole_parent: bool = False
    #: USER or USER:GROUP that tasks run as; empty: the worker's own user.
    task_user: str = ""


def read_queue(text: str) -> tuple[str, int]:
    """Read NAME:SLOTS, or a bare number of slots for tasks of every queue."""
    name, _, slots = text.rpartition(":")
    if not slots.isascii() or not slots.isdigit() or not 1 <= int(slots) <= 10_000:
        raise ValueError("write NAME:SLOTS, such as default:4 (slots from 1 to 10000)")
    return name or ANY_QUEUE, int(slots)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of `echelon worker`."""

    volume: Path | None = field(
        default=None,
        metadata=declare_setting(
            "Folder of workspaces, logs and artefacts: the one that the controllers use.", Path, flag="--volume"
        ),
    )
    broker: str = field(
        default="",
        repr=False,
        metadata=declare_setting(
            "URL of RabbitMQ: amqp://user:password@host:5672/", flag="--broker", secret=True, has_file_flag=True
        ),
    )
    queue_type: Literal["classic", "quorum"] = field(
        default="classic",
        metadata=declare_setting(
            "Kind of the broker's queues: the controllers' own, or neither hears the other (default: classic).",
            one_of("classic", "quorum"),
            flag="--queue-type",
        ),
    )
    queue: tuple[tuple[str, int], ...] = field(
        default_factory=lambda: tuple(default_slots().items()),
        metadata=declare_setting(
            "Queue and slots; may be given several times (default: one slot per CPU, for every queue).",
            read_queue,
            flag="--queue",
            many=True,
            metavar="NAME:SLOTS",
            has_variable=False,
        ),
    )
    name: str = field(
        default_factory=platform.node,
        metadata=declare_setting("Name of this worker, unique on this host (default: the host's name).", flag="--name"),
    )
    state_dir: Path = field(
        default_factory=_default_state_dir,
        metadata=declare_setting(
            "Local folder in which this worker remembers its incarnations.", Path, flag="--state-dir"
        ),
    )
    drain_timeout: float = field(
        default=60.0,
        metadata=declare_setting(
            "Seconds that running tasks may go on at SIGTERM (default: 60).", read_seconds, flag="--drain-timeout"
        ),
    )
    heartbeat: float = field(
        default=DEFAULT_HEARTBEAT,
        metadata=declare_setting(
            "Longest time between two heartbeats (default: 5); a third of the controllers' lease if that is less.",
            at_least(0.1, read_seconds),
            flag="--heartbeat",
            metavar="TIME",
        ),
    )
    max_output: int = field(
        default=16 * MIB,
        metadata=declare_setting(
            "Bytes kept of a task's stdout, and of its stderr (default: 16MiB).",
            at_least(1024, read_size),
            flag="--max-output",
            metavar="BYTES",
        ),
    )
    task_user: str = field(
        default="",
        metadata=declare_setting(
            "User that tasks run as; the worker has to be root (default: the worker's user).",
            flag="--task-user",
            metavar="USER[:GROUP]",
        ),
    )
    metrics: Address | None = field(
        default=None,
        metadata=declare_setting(
            "Where to serve metrics for Prometheus, without a token (default: nowhere).",
            read_address,
            flag="--metrics",
            metavar="HOST:PORT",
        ),
    )
    log_level: str = field(
        default="info",
        metadata=declare_setting(
            "Lowest level of logged messages (default: info).",
            one_of("debug", "info", "warning", "error"),
            flag="--log-level",
        ),
    )
    log_format: str = field(
        default="text",
        metadata=declare_setting(
            "Lines of the log: text, or json, one object a line (default: text).",
            one_of(*FORMATS),
            flag="--log-format",
        ),
    )


def resolve_options(
    flags: Mapping[str, object], environ: Mapping[str, str], *, file: Path | None = None
) -> WorkerOptions:
    """Return every option's value; raise InvalidSetting, which names the place of the error."""
    return find_settings(WorkerOptions, flags, environ, file=file, file_layers=_make_layers).settings


def _make_layers(path: Path, written: dict[str, Any]) -> Sequence[Layer]:
    """Return the config file's settings for workers: first their own table, then those shared with controllers."""
    own = written.get(WORKER_TABLE, {})
    known = {one.name for one in settings_of(WorkerOptions)} | {"broker_file"}
    if not isinstance(own, dict) or not own.keys() <= known:
        raise InvalidSetting(f"{path}: [{WORKER_TABLE}] is a table of {', '.join(sorted(known))}")
    common = {name: value for name, value in written.items() if name in known - _OWN}
    return file_layer(path, own, table=f"[{WORKER_TABLE}] "), file_layer(path, common)
