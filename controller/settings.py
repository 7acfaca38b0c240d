"""Every setting of the controller and of its command line: name, default, meaning."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from echelon.shared.address import Address as Address
from echelon.shared.address import read_address as read_address
from echelon.shared.lease import DEFAULT_HEARTBEAT, DEFAULT_LEASE, SHORTEST_LEASE
from echelon.shared.logs import FORMATS
from echelon.shared.readers import one_of, read_count, read_positive, read_seconds, read_size, read_switch
from echelon.shared.settings import (
    WORKER_TABLE,
    Layer,
    ResolvedSettings,
    Setting,
    check_names,
    declare_setting,
    file_layer,
    find_settings,
    settings_of,
)


def read_lease(text: str) -> float:
    """Read the length of a lease."""
    length = read_seconds(text)
    if length < SHORTEST_LEASE:
        raise ValueError(
            f"write {SHORTEST_LEASE:g}s or more: a worker needs some of it to end a task's processes in time"
        )
    return length


def read_url(text: str) -> str:
    """Read the address of a controller."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write a URL like http://127.0.0.1:8080")
    return text.rstrip("/")


def _default_volume() -> Path:
    import platformdirs

    return platformdirs.user_data_path("echelon") / "volume"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a controller and of its command line."""

    url: str = field(
        default="http://127.0.0.1:8080",
        metadata=declare_setting("The controller that commands talk to.", read_url, flag="--url", metavar="URL"),
    )
    token: str = field(
        default="",
        repr=False,
        metadata=declare_setting("Secret that clients send to the controller.", secret=True),
    )
    catalogue: tuple[Path, ...] = field(
        default=(), metadata=declare_setting("Catalogue files or folders.", Path, flag="--catalogue", many=True)
    )
    volume: Path = field(
        default_factory=_default_volume,
        metadata=declare_setting("Folder of workspaces, logs and artefacts.", Path, flag="--volume"),
    )
    datastore: str = field(
        default="",
        repr=False,
        metadata=declare_setting("Database URL; empty: a SQLite file in the volume.", flag="--datastore", secret=True),
    )
    broker: str = field(
        default="",
        repr=False,
        metadata=declare_setting(
            "URL of RabbitMQ, amqp://user:password@host:5672/; standalone has its own.", flag="--broker", secret=True
        ),
    )
    queue_type: str = field(
        default="classic",
        metadata=declare_setting(
            "Kind of the broker's queues; the same for controllers and workers.",
            one_of("classic", "quorum"),
            flag="--queue-type",
        ),
    )
    listen: Address = field(
        default=Address("127.0.0.1", 8080),
        metadata=declare_setting("Address of the REST interface.", read_address, flag="--listen", metavar="HOST:PORT"),
    )
    hosts: tuple[str, ...] = field(
        default=(),
        metadata=declare_setting(
            "Names beside localhost that requests without a token may give in their Host header.", many=True
        ),
    )
    insecure: bool = field(
        default=False,
        metadata=declare_setting(
            "Listen beyond this machine although no token is set.", read_switch, flag="--insecure"
        ),
    )
    slots: int = field(
        default_factory=lambda: os.cpu_count() or 1,
        metadata=declare_setting("Tasks that run at once.", read_positive, flag="--slots"),
    )
    lease: float = field(
        default=DEFAULT_LEASE,
        metadata=declare_setting(
            "Seconds without a heartbeat after which an attempt counts as lost.",
            read_lease,
            flag="--lease",
            metavar="TIME",
        ),
    )
    heartbeat: float = field(
        default=DEFAULT_HEARTBEAT,
        metadata=declare_setting("Seconds between two heartbeats of a worker.", read_seconds),
    )
    drain_timeout: float = field(
        default=60.0,
        metadata=declare_setting("Seconds that running tasks may go on after a shutdown request.", read_seconds),
    )
    max_losses: int = field(
        default=3,
        metadata=declare_setting("Workers that a task may take down before it counts as failed.", read_positive),
    )
    max_items: int = field(
        default=100_000, metadata=declare_setting("Tasks that one spawn.json may ask for.", read_positive)
    )
    max_open_jobs: int = field(
        default=100_000,
        metadata=declare_setting(
            "Jobs that may be open at once; further submits are refused until some have ended; 0: any number.",
            read_count,
            flag="--max-open-jobs",
        ),
    )
    allow_inline_commands: bool = field(
        default=False,
        metadata=declare_setting(
            "Jobs composed in a request may bring their own commands: every client that can submit can then run any"
            " program on the workers.",
            read_switch,
            flag="--allow-inline-commands",
        ),
    )
    max_output: int = field(
        default=16 << 20, metadata=declare_setting("Bytes kept of a task's stdout, and of its stderr.", read_size)
    )
    min_free: int = field(
        default=64 << 20,
        metadata=declare_setting(
            "Bytes that have to be free on the disks of the volume and of a SQLite store; with less, or with fewer than"
            " 1,000 files left, the controller is not ready; 0: no limit.",
            read_size,
        ),
    )
    retention_age: float = field(
        default=0.0,
        metadata=declare_setting(
            "How long jobs are kept after their end, with logs and files: 30d; 0: for ever.", read_seconds
        ),
    )
    retention_jobs: int = field(
        default=0,
        metadata=declare_setting("How many ended jobs are kept; those that ended first go; 0: any number.", read_count),
    )
    retention_bytes: int = field(
        default=0,
        metadata=declare_setting(
            "Bytes that files of ended jobs may take; jobs that ended first go; 0: any number.", read_size
        ),
    )
    task_user: str = field(
        default="",
        metadata=declare_setting(
            "USER or USER:GROUP that tasks of `run` and `standalone` run as; the engine has to be root."
        ),
    )
    max_body: int = field(default=1 << 20, metadata=declare_setting("Bytes of a request's body.", read_size))
    log_level: str = field(
        default="info",
        metadata=declare_setting("Lowest level of logged messages.", one_of("debug", "info", "warning", "error")),
    )
    log_format: str = field(
        default="text",
        metadata=declare_setting("Lines of the log: text, or json, one object a line.", one_of(*FORMATS)),
    )
    access_log: bool = field(
        default=False, metadata=declare_setting("Log each request to the REST interface.", read_switch)
    )

    @property
    def datastore_url(self) -> str:
        """Return the database URL, the SQLite file in the volume when none is set."""
        return self.datastore or f"sqlite:///{self.volume.absolute() / '.echelon' / 'echelon.db'}"

    @property
    def disks(self) -> tuple[Path, ...]:
        """Return the folders that hold what the engine writes, those of a database server excepted."""
        if not self.datastore.startswith("sqlite:///"):
            return (self.volume.absolute(),)
        return (self.volume.absolute(), Path(self.datastore.removeprefix("sqlite:///")).absolute().parent)


Resolved: TypeAlias = ResolvedSettings[Settings]


def list_settings() -> tuple[Setting, ...]:
    """Return every setting, in the order in which they are shown."""
    return settings_of(Settings)


def resolve_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], *, file: Path | None = None
) -> ResolvedSettings[Settings]:
    """Find every setting's value; raises InvalidSetting, which names the place of the mistake."""
    return find_settings(Settings, flags, environ, file=file, file_layers=_make_layers)


def _make_layers(path: Path, written: dict[str, Any]) -> Sequence[Layer]:
    own = {name: value for name, value in written.items() if name != WORKER_TABLE}
    check_names(Settings, path, own)
    return (file_layer(path, own),)
