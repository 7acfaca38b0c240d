"""Tries to read the processes of an engine, as a task of the same user may; prints what it could do, as JSON.

A script of its own without imports of Echelon, because it runs as a task: `python peeping.py PID...`.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

_ATTACH, _DETACH = 16, 17
_GET_DUMPABLE = 3
_PIDFD_GETFD = 438
_WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """Return the result of a call; raise OSError for its error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read_file(name: str) -> Callable[[int], object]:
    """Return an attempt to read a file of a process."""

    def read(pid: int) -> object:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()

    return read


def open_memory(pid: int) -> None:
    """Open the memory; reading at 0 would fail for another reason."""
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))


def attach(pid: int) -> None:
    """Attach like a debugger."""
    check(libc.ptrace(_ATTACH, pid, None, None))
    os.waitpid(pid, _WALL)
    libc.ptrace(_DETACH, pid, None, None)


def take_file(pid: int) -> None:
    """Take an open file of the process, its listening socket perhaps."""
    os.close(check(libc.syscall(_PIDFD_GETFD, os.pidfd_open(pid), 0, 0)))


def name_file(pid: int) -> None:
    """Read the name of an open file."""
    os.readlink(f"/proc/{pid}/fd/0")


ATTEMPTS: dict[str, Callable[[int], object]] = {
    "environ": read_file("environ"),
    "maps": read_file("maps"),
    "mem": open_memory,
    "attach": attach,
    "take a file": take_file,
    "name a file": name_file,
}


def try_all(pid: int) -> list[str]:
    """Return the attempts that succeed on a process."""
    succeeded = []
    for name, attempt in ATTEMPTS.items():
        try:
            attempt(pid)
        except PermissionError:
            continue
        succeeded.append(name)
    return succeeded


def main() -> None:
    """Try everything on the given processes, and on a child of this one, which has to be readable."""
    child = os.fork()
    if not child:
        os.execvp("sleep", ["sleep", "1000"])
    found = {
        "dumpable": libc.prctl(_GET_DUMPABLE, 0, 0, 0, 0),
        "child": try_all(child),
        "engine": {pid: try_all(int(pid)) for pid in sys.argv[1:]},
        "arguments": [Path(f"/proc/{pid}/cmdline").read_text() for pid in sys.argv[1:]],
        "environment": dict(os.environ),
    }
    os.kill(child, 9)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
