"""How the value of a setting is written: each function reads one kind of text, or says what to write instead.

A ValueError's message is for people and names what is wanted, not where the text stood.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from echelon.shared.config import seconds
from echelon.shared.lease import SHORTEST_LEASE

MASK: Final = "********"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Tell whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def address(text: str) -> Address:
    """Read HOST:PORT; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("write HOST:PORT, for example 127.0.0.1:8080")
    return Address(host, int(port))


def lease(text: str) -> float:
    """Read the length of a lease."""
    length = seconds(text)
    if length < SHORTEST_LEASE:
        raise ValueError(
            f"write {SHORTEST_LEASE:g}s or more: a worker needs some of it to end a task's processes in time"
        )
    return length


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError("write a whole number from 1")
    return int(text)


def count(text: str) -> int:
    """Read a whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("write a whole number from 0")
    return int(text)


def switch(text: str) -> bool:
    """Read yes or no."""
    lowered = text.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("write true or false")


def http_url(text: str) -> str:
    """Read the address of a controller."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write a URL like http://127.0.0.1:8080")
    return text.rstrip("/")


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of a few words."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return text.lower()

    return read


def mask_password(url: str) -> str:
    """Return a URL without the password that may stand in it."""
    without = re.sub(r"(?<=://)([^:/@]*):[^?]*@", rf"\1:{MASK}@", url)
    return re.sub(r"(?<=[?&]password=)[^&]*", MASK, without)
