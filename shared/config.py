"""The config file that every command reads, and how what stands in it is written: lengths of time, sizes, secrets.

Controller and worker each know their own settings; this module knows none by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from echelon.shared.errors import InvalidInput

VARIABLE: Final = "ECHELON_CONFIG"
#: The part of the file that is for workers alone.
WORKER_TABLE: Final = "worker"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}


class InvalidSetting(InvalidInput):
    """A setting has a value that cannot be used."""


def default_file() -> Path:
    """Return where a user's own config file lies."""
    import platformdirs

    return platformdirs.user_config_path("echelon") / "echelon.toml"


def config_file(named: Path | None, environ: Mapping[str, str]) -> tuple[Path, dict[str, Any] | None]:
    """Return the path of the file in force and what it says; None when there is none and none was named.

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
        raise InvalidSetting(f"{path}: {error}") from error


def secret_in(path: Path, place: str) -> str:
    """Return the secret that a file holds; `place` is where the file was named. Raises InvalidSetting."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{place}: cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def seconds(text: str) -> float:
    """Read a length of time: 10, 1.5s, 10m, 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", text.strip())
    if not found:
        raise ValueError("write a number of seconds, or 500ms, 90s, 10m, 2h, 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def size(text: str) -> int:
    """Read a number of bytes: 4096, 64KiB, 16MiB."""
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in _SIZES:
        raise ValueError("write a number of bytes, or 64KiB, 16MiB, 1GiB")
    return int(found[1]) * _SIZES[found[2]]
