"""How the value of a setting is written: each function reads one kind of text.

If it cannot, it raises ValueError, whose message tells people what to write instead and not where the text stood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

MASK: Final = "********"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}

Number = TypeVar("Number", int, float)


def read_seconds(text: str) -> float:
    """Read a length of time: 10, 1.5s, 10m, 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", text.strip())
    if not found:
        words = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])(?:ec|in|our|ay)[a-z]*", text.strip().lower())
        raise ValueError(
            f"write {words[1]}{words[2]}" if words else "write a number of seconds, or 500ms, 90s, 10m, 2h, 1d"
        )
    return float(found[1]) * _UNITS[found[2] or "s"]


def read_size(text: str) -> int:
    """Read a number of bytes: 4096, 64KiB, 16MiB."""
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in _SIZES:
        raise ValueError("write a number of bytes, or 64KiB, 16MiB, 1GiB")
    return int(found[1]) * _SIZES[found[2]]


def at_least(least: Number, read: Callable[[str], Number]) -> Callable[[str], Number]:
    """Read a number that is not less than `least`."""

    def read_bounded(text: str) -> Number:
        found = read(text)
        if found < least:
            raise ValueError(f"write at least {least:g}")
        return found

    return read_bounded


def read_positive(text: str) -> int:
    """Read a whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError("write a whole number from 1")
    return int(text)


def read_count(text: str) -> int:
    """Read a whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("write a whole number from 0")
    return int(text)


def read_switch(text: str) -> bool:
    """Read yes or no."""
    lowered = text.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("write true or false")


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of a few words."""

    def read_word(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return text.lower()

    return read_word


def mask_password(url: str) -> str:
    """Return a URL without the password that may stand in it."""
    without = re.sub(r"(?<=://)([^:/@]*):[^?]*@", rf"\1:{MASK}@", url)
    return re.sub(r"(?<=[?&]password=)[^&]*", MASK, without)
