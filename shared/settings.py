"""Settings: a process declares them in a dataclass; `find_settings` finds the value of each, and its origin.

A flag stands over an ECHELON_* variable, that over the config file, that over the default. Controller and worker each
declare their own settings; this module knows none by name. It opens no connection and creates no file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from echelon.shared.errors import InvalidInput
from echelon.shared.readers import MASK, mask_password, read_count, read_positive, read_seconds, read_size, read_switch
from echelon.shared.secrecy import forget_secrets

VARIABLE: Final = "ECHELON_CONFIG"
#: The part of the config file that is for workers alone.
WORKER_TABLE: Final = "worker"
PREFIX: Final = "ECHELON_"
_METAVARS: Final[Mapping[Callable[[str], Any], str]] = {
    read_positive: "N",
    read_count: "N",
    read_seconds: "TIME",
    read_size: "BYTES",
    Path: "PATH",
}

S = TypeVar("S")


class InvalidSetting(InvalidInput):
    """A setting has a value that cannot be used."""


class Origin(StrEnum):
    """Where a value comes from, strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting."""

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
    #: May be given by an environment variable; not when its several values hold ":" themselves.
    has_variable: bool
    #: A secret with a flag of its own has one for a file beside it.
    has_file_flag: bool

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag_names(self) -> tuple[str, ...]:
        """Return the names under which it stands on the command line: its own, or its own with "_file"."""
        own = (self.name,) if self.flag else ()
        return (*own, f"{self.name}_file") if self.secret and (self.has_file_flag or not own) else own

    @property
    def is_switch(self) -> bool:
        """Tell whether its mere presence on the command line sets it."""
        return self.read is read_switch

    def mask_value(self, value: object) -> str:
        """Return the value without what is secret."""
        if self.secret and value:
            return mask_password(str(value)) if "://" in str(value) else MASK
        if isinstance(value, tuple):
            return os.pathsep.join(map(str, value))
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else str(value)


def declare_setting(
    meaning: str,
    read: Callable[[str], Any] = str,
    *,
    flag: str | None = None,
    many: bool = False,
    secret: bool = False,
    metavar: str | None = None,
    has_variable: bool = True,
    has_file_flag: bool = False,
) -> dict[str, Any]:
    """Return the metadata of a dataclass field that is a setting."""
    return {
        "meaning": meaning,
        "read": read,
        "flag": flag,
        "many": many,
        "secret": secret,
        "metavar": metavar or _METAVARS.get(read, "TEXT"),
        "has_variable": has_variable,
        "has_file_flag": has_file_flag,
    }


def settings_of(declared: type) -> tuple[Setting, ...]:
    """Return every setting that a dataclass declares, in the order in which they are shown."""
    return tuple(Setting(one.name, **one.metadata) for one in fields(declared))


@dataclass(frozen=True, slots=True)
class ResolvedSettings(Generic[S]):
    """The settings in force, and where each comes from."""

    settings: S
    origins: Mapping[str, Origin]
    #: The config file that was read; None: there is none.
    file: Path | None
    #: Of each secret that stands in a file of its own, how users know what names that file.
    secret_files: Mapping[str, str]

    def rows(self) -> list[tuple[Setting, str, str]]:
        """Return (setting, value without what is secret, origin) for each."""
        known = settings_of(type(self.settings))
        return [
            (one, one.mask_value(getattr(self.settings, one.name)), self._describe_origin(one.name)) for one in known
        ]

    def _describe_origin(self, name: str) -> str:
        return f"{self.origins[name]}" + (f" ({self.secret_files[name]})" if name in self.secret_files else "")


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the places where values may stand."""

    origin: Origin
    #: Values by name of the setting, or by name + "_file" for a secret.
    values: Mapping[str, object]
    #: How users know the place of a name.
    place: Callable[[str], str]
    #: Where relative paths begin; None: the current folder.
    folder: Path | None = None


#: Turns the config file's path and content into layers, strongest first; raises InvalidSetting.
FileLayers = Callable[[Path, dict[str, Any]], Sequence[Layer]]


def find_settings(
    declared: type[S],
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    file: Path | None,
    file_layers: FileLayers,
) -> ResolvedSettings[S]:
    """Find the value of every setting that a dataclass declares; InvalidSetting names the place of a mistake.

    `flags` holds what was given on the command line, by name of the setting (or `<name>_file`). Without `file` the
    config file is ECHELON_CONFIG or the user's own, if there is one.
    """
    known = settings_of(declared)
    path, written = read_config_file(file, environ)
    by_variable = {one.variable: one.name for one in known if one.has_variable}
    by_variable |= {f"{one.variable}_FILE": f"{one.name}_file" for one in known if one.secret}
    variables = {name: environ[variable] for variable, name in by_variable.items() if environ.get(variable)}
    layers = (
        Layer(Origin.FLAG, flags, lambda name: f"--{name.replace('_', '-')}"),
        Layer(Origin.ENVIRONMENT, variables, lambda name: PREFIX + name.upper()),
        *(file_layers(path, written) if written is not None else ()),
    )
    values: dict[str, Any] = {}
    secret_files: dict[str, str] = {}
    origins = dict.fromkeys((one.name for one in known), Origin.DEFAULT)
    for one in known:
        found = next((layer for layer in layers if _has_value(one, layer)), None)
        if found:
            values[one.name], origins[one.name] = _read_value(one, found), found.origin
            if one.name not in found.values:
                secret_files[one.name] = found.place(f"{one.name}_file")
    return ResolvedSettings(declared(**values), origins, path if written is not None else None, secret_files)


def forget_settings(declared: type, flags: Mapping[str, object]) -> None:
    """Remove the secrets among settings, which have been read, from where other processes could read them too."""
    secrets = [one for one in settings_of(declared) if one.secret]
    forget_secrets([one.variable for one in secrets], [str(flags[one.name]) for one in secrets if one.name in flags])


def file_layer(path: Path, values: Mapping[str, object], *, table: str = "") -> Layer:
    """Return the layer of a config file, or of a table in it."""
    return Layer(Origin.FILE, values, lambda name: f"{path}: {table}{name}", path.parent)


def check_names(declared: type, path: Path, written: Mapping[str, object]) -> None:
    """Raise InvalidSetting if a config file has names that no setting has, or tables for values."""
    settings = settings_of(declared)
    known = {one.name for one in settings} | {f"{one.name}_file" for one in settings if one.secret}
    mistakes = [_explain_unknown(path, key, known) for key in written if key not in known]
    mistakes += [f"{path}: {key}: write one plain value" for key, raw in written.items() if isinstance(raw, dict)]
    if mistakes:
        raise InvalidSetting("\n".join(mistakes))


def default_file() -> Path:
    """Return where a user's own config file lies."""
    import platformdirs

    return platformdirs.user_config_path("echelon") / "echelon.toml"


def read_config_file(named: Path | None, environ: Mapping[str, str]) -> tuple[Path, dict[str, Any] | None]:
    """Return the path of the config file in force and its content; None when there is none and none was named.

    Raises InvalidSetting.
    """
    import tomllib

    named = named or (Path(environ[VARIABLE]) if environ.get(VARIABLE) else None)
    path = named or default_file()
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named is not None:
            raise InvalidSetting(f"there is no config file {path}") from None
        return path, None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        if named is None and not _may_exist(path):
            return path, None
        raise InvalidSetting(f"{path}: {error}") from error


def _may_exist(path: Path) -> bool:
    """Tell whether there may be a file: in a folder of another user, such as a HOME that was left over, is none."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _has_value(one: Setting, layer: Layer) -> bool:
    return one.name in layer.values or (one.secret and f"{one.name}_file" in layer.values)


def _read_value(one: Setting, layer: Layer) -> object:
    """Read a value from the layer where it stands."""
    if one.name in layer.values:
        place, raw = layer.place(one.name), layer.values[one.name]
    else:
        place = layer.place(f"{one.name}_file")
        raw = _read_secret((layer.folder or Path()) / str(layer.values[f"{one.name}_file"]), place)
    texts = _as_texts(one, raw)
    try:
        read = [one.read(text) for text in texts]
    except ValueError as error:
        shown = "" if one.secret else f" {', '.join(texts)!r} cannot be used:"
        raise InvalidSetting(f"{place}:{shown} {error}") from error
    placed = [layer.folder / item if layer.folder and isinstance(item, Path) else item for item in read]
    return tuple(placed) if one.many else placed[0]


def _read_secret(path: Path, place: str) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{place}: cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not secret:
        # The default would be another engine: a store in a file, or no token.
        raise InvalidSetting(f"{place}: {path} is empty: write the value into it, or leave the setting out")
    return secret


def _as_texts(one: Setting, raw: object) -> list[str]:
    if one.many and isinstance(raw, str):
        return raw.split(os.pathsep) if one.has_variable else [raw]
    if one.many:
        return [str(item) for item in (raw if isinstance(raw, list | tuple) else [raw])]
    return [str(raw).lower() if isinstance(raw, bool) else str(raw)]


def _explain_unknown(path: Path, key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    meant = f"did you mean {close[0]!r}?" if close else "'echelon config' lists the settings"
    return f"{path}: there is no setting {key!r}; {meant}"
