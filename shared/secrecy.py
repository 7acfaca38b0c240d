"""Keeps what this process knows from other processes of the same user, such as its own tasks.

Without it the kernel lets them read this process's memory and environment, and attach to it. A fork keeps the kernel's
answer; a new program starts without it. So tasks stay readable, and each program of the engine calls `forbid_peeking`
first. On systems other than Linux, it does nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final

_SET_DUMPABLE: Final = 4
#: Fields of /proc/self/stat behind the name: where the arguments begin and end, and the environment.
_ARGUMENTS, _ENVIRONMENT = slice(45, 47), slice(47, 49)


def forbid_peeking() -> None:
    """Prevent other processes from reading this one through /proc or ptrace, and core dumps of it."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = ctypes.c_ulong(0)
    if libc.prctl(_SET_DUMPABLE, nothing, nothing, nothing, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot keep other processes from reading this one: {os.strerror(error)}")


def forget_secrets(variables: Iterable[str], arguments: Iterable[str]) -> None:
    """Remove variables from the environment, and hide them and these arguments in what /proc shows of the start.

    A process's arguments are shown to every user.
    """
    names = [os.fsencode(name) + b"=" for name in variables if os.environ.pop(name, None) is not None]
    values = [os.fsencode(value) for value in arguments]
    if (names or values) and sys.platform == "linux":
        with open("/proc/self/stat", "rb") as file:
            # The name in parentheses may contain parentheses itself.
            fields = file.read().rpartition(b") ")[2].split()
        for place, entry in _list_entries(fields[_ENVIRONMENT]):
            for name in names:
                if entry.startswith(name):
                    _overwrite_end(place, entry, len(entry) - len(name))
        for place, entry in _list_entries(fields[_ARGUMENTS]):
            for value in values:
                if entry == value or entry.endswith(b"=" + value):
                    _overwrite_end(place, entry, len(value))


def _list_entries(area: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the texts between two places in memory, each ended by a zero byte, and the place of each."""
    place, end = map(int, area)
    for entry in ctypes.string_at(place, end - place).split(b"\0"):
        yield place, entry
        place += len(entry) + 1


def _overwrite_end(place: int, entry: bytes, length: int) -> None:
    ctypes.memset(place + len(entry) - length, ord("*"), length)
