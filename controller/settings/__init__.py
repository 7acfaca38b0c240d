"""Every setting of the controller and of its command line: name, default, meaning; and where its value comes from.

A flag stands over an ECHELON_* variable, that over the config file, that over the default. This module reads and
checks values; it opens no connection and creates no file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from echelon.controller.settings.writing import (
    MASK,
    Address,
    address,
    count,
    http_url,
    lease,
    mask_password,
    one_of,
    positive,
    switch,
)
from echelon.shared.config import WORKER_TABLE, InvalidSetting, config_file, default_file, seconds, secret_in, size
from echelon.shared.lease import DEFAULT_HEARTBEAT, DEFAULT_LEASE

__all__ = [
    "Address",
    "InvalidSetting",
    "Origin",
    "Resolved",
    "Setting",
    "Settings",
    "address",
    "default_file",
    "mask_password",
    "resolve",
    "seconds",
    "size",
    "table",
]

PREFIX: Final = "ECHELON_"


class Origin(StrEnum):
    """Where a value comes from, strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known about one setting beside its value."""

    name: str
    meaning: str
    #: Turns text into the value; raises ValueError with what to write instead.
    read: Callable[[str], Any]
    #: On the command line; None where it has no flag.
    flag: str | None
    #: Takes several values: flag repeated, variable separated by ":".
    many: bool
    #: Its value is never shown; may also be given as the name of a file that holds it.
    secret: bool
    #: Stands for the value in a help text.
    metavar: str
    #: Given by its mere presence on the command line.
    is_switch: bool

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return PREFIX + self.name.upper()

    def shown(self, value: object) -> str:
        """Return the value as anybody may see it."""
        if self.secret and value:
            return mask_password(str(value)) if "://" in str(value) else MASK
        if isinstance(value, tuple):
            return os.pathsep.join(map(str, value))
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else str(value)


def _about(
    meaning: str,
    read: Callable[[str], Any] = str,
    *,
    flag: str | None = None,
    many: bool = False,
    secret: bool = False,
) -> dict[str, Any]:
    metavars: dict[Callable[[str], Any], str] = {
        http_url: "URL",
        address: "HOST:PORT",
        positive: "N",
        count: "N",
        seconds: "TIME",
        lease: "TIME",
        size: "BYTES",
        Path: "PATH",
    }
    about = {"meaning": meaning, "read": read, "flag": flag, "many": many, "secret": secret}
    return {**about, "metavar": metavars.get(read, "TEXT"), "is_switch": read is switch}


def _default_volume() -> Path:
    import platformdirs

    return platformdirs.user_data_path("echelon") / "volume"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a controller and its command line can be told."""

    url: str = field(
        default="http://127.0.0.1:8080",
        metadata=_about("The controller that commands talk to.", http_url, flag="--url"),
    )
    token: str = field(
        default="",
        repr=False,
        metadata=_about("Secret that clients show to the controller.", secret=True),
    )
    catalogue: tuple[Path, ...] = field(
        default=(), metadata=_about("Catalogue files or folders.", Path, flag="--catalogue", many=True)
    )
    volume: Path = field(
        default_factory=_default_volume,
        metadata=_about("Folder of workspaces, logs and artefacts.", Path, flag="--volume"),
    )
    datastore: str = field(
        default="",
        repr=False,
        metadata=_about("Database URL; empty: a SQLite file in the volume.", flag="--datastore", secret=True),
    )
    broker: str = field(
        default="",
        repr=False,
        metadata=_about(
            "URL of RabbitMQ, amqp://user:password@host:5672/; standalone has its own.", flag="--broker", secret=True
        ),
    )
    queue_type: str = field(
        default="classic",
        metadata=_about(
            "Kind of the broker's queues; the same for controllers and workers.",
            one_of("classic", "quorum"),
            flag="--queue-type",
        ),
    )
    listen: Address = field(
        default=Address("127.0.0.1", 8080),
        metadata=_about("Address of the REST interface.", address, flag="--listen"),
    )
    hosts: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Names beside localhost that requests without a token may give in their Host header.", many=True
        ),
    )
    insecure: bool = field(
        default=False,
        metadata=_about("Listen beyond this machine although no token is set.", switch, flag="--insecure"),
    )
    slots: int = field(
        default_factory=lambda: os.cpu_count() or 1,
        metadata=_about("Tasks that run at once.", positive, flag="--slots"),
    )
    lease: float = field(
        default=DEFAULT_LEASE,
        metadata=_about("Seconds without a sign of life after which an attempt counts as lost.", lease, flag="--lease"),
    )
    heartbeat: float = field(
        default=DEFAULT_HEARTBEAT, metadata=_about("Seconds between two signs of life of a worker.", seconds)
    )
    drain_timeout: float = field(
        default=60.0,
        metadata=_about("Seconds that running tasks may go on when the process is asked to end.", seconds),
    )
    max_losses: int = field(
        default=3, metadata=_about("Workers that a task may take down before it counts as failed.", positive)
    )
    max_items: int = field(default=100_000, metadata=_about("Tasks that one spawn.json may ask for.", positive))
    max_open_jobs: int = field(
        default=100_000,
        metadata=_about(
            "Jobs that may be open at once: more are not taken until some have ended; 0: any number.",
            count,
            flag="--max-open-jobs",
        ),
    )
    allow_inline_commands: bool = field(
        default=False,
        metadata=_about(
            "Jobs composed in a request may bring commands of their own: whoever can submit runs any program on the"
            " workers.",
            switch,
            flag="--allow-inline-commands",
        ),
    )
    max_output: int = field(
        default=16 << 20, metadata=_about("Bytes kept of a task's stdout, and of its stderr.", size)
    )
    max_body: int = field(default=1 << 20, metadata=_about("Bytes of a request's body.", size))
    log_level: str = field(
        default="info",
        metadata=_about("Least weight of what is logged.", one_of("debug", "info", "warning", "error")),
    )

    @property
    def datastore_url(self) -> str:
        """Return the database URL, the SQLite file in the volume when none is set."""
        return self.datastore or f"sqlite:///{self.volume.absolute() / '.echelon' / 'echelon.db'}"


def table() -> tuple[Setting, ...]:
    """Return every setting, in the order in which they are shown."""
    return tuple(Setting(one.name, **one.metadata) for one in fields(Settings))


# --- where values come from -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings in force, and where each comes from."""

    settings: Settings
    origins: Mapping[str, Origin]
    #: The config file that was read; None: there is none.
    file: Path | None

    def rows(self) -> list[tuple[Setting, str, Origin]]:
        """Return (setting, value as anybody may see it, origin) for each."""
        return [(one, one.shown(getattr(self.settings, one.name)), self.origins[one.name]) for one in table()]


@dataclass(frozen=True, slots=True)
class _Layer:
    """One of the places where values may stand."""

    origin: Origin
    #: What stands there, by name of the setting, or name + "_file" for a secret.
    values: Mapping[str, object]
    #: How users know the place of a name.
    place: Callable[[str], str]
    #: Where relative paths begin; None: the current folder.
    folder: Path | None = None


def resolve(flags: Mapping[str, object], environ: Mapping[str, str], *, file: Path | None = None) -> Resolved:
    """Find every setting's value; raises InvalidSetting, which names the place of the mistake.

    `flags` holds what was given on the command line, by name of the setting (or `<name>_file`). Without `file` it is
    ECHELON_CONFIG or the user's own config file, if there is one.
    """
    path, written = config_file(file, environ)
    if written is not None:
        # Not for us.
        written.pop(WORKER_TABLE, None)
        _check_names(path, written)
    variables = {key[len(PREFIX) :].lower(): text for key, text in environ.items() if key.startswith(PREFIX) and text}
    layers = (
        _Layer(Origin.FLAG, flags, lambda name: f"--{name.replace('_', '-')}"),
        _Layer(Origin.ENVIRONMENT, variables, lambda name: PREFIX + name.upper()),
        _Layer(Origin.FILE, written or {}, lambda name: f"{path}: {name}", path.parent),
    )
    values: dict[str, Any] = {}
    origins = dict.fromkeys((one.name for one in table()), Origin.DEFAULT)
    for one in table():
        found = next((layer for layer in layers if _stands(one, layer)), None)
        if found:
            values[one.name], origins[one.name] = _value(one, found), found.origin
    return Resolved(Settings(**values), origins, path if written is not None else None)


def _stands(one: Setting, layer: _Layer) -> bool:
    return one.name in layer.values or (one.secret and f"{one.name}_file" in layer.values)


def _value(one: Setting, layer: _Layer) -> object:
    """Read a value from the layer where it stands."""
    if one.name in layer.values:
        place, raw = layer.place(one.name), layer.values[one.name]
    else:
        place = layer.place(f"{one.name}_file")
        raw = secret_in((layer.folder or Path()) / str(layer.values[f"{one.name}_file"]), place)
    texts = _texts(one, raw)
    try:
        read = [one.read(text) for text in texts]
    except ValueError as error:
        shown = "" if one.secret else f" {', '.join(texts)!r} cannot be used:"
        raise InvalidSetting(f"{place}:{shown} {error}") from error
    placed = [layer.folder / item if layer.folder and isinstance(item, Path) else item for item in read]
    return tuple(placed) if one.many else placed[0]


def _texts(one: Setting, raw: object) -> list[str]:
    if one.many:
        return raw.split(os.pathsep) if isinstance(raw, str) else [str(item) for item in _as_sequence(raw)]
    return [str(raw).lower() if isinstance(raw, bool) else str(raw)]


def _as_sequence(raw: object) -> Sequence[object]:
    return raw if isinstance(raw, list | tuple) else [raw]


def _check_names(path: Path, written: Mapping[str, object]) -> None:
    """Raise InvalidSetting for what a config file says of settings that there are not."""
    known = {one.name for one in table()} | {f"{one.name}_file" for one in table() if one.secret}
    mistakes = [_unknown(path, key, known) for key in written if key not in known]
    mistakes += [f"{path}: {key}: write one plain value" for key, raw in written.items() if isinstance(raw, dict)]
    if mistakes:
        raise InvalidSetting("\n".join(mistakes))


def _unknown(path: Path, key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    meant = f"did you mean {close[0]!r}?" if close else "'echelon config' lists the settings"
    return f"{path}: there is no setting {key!r}; {meant}"
