"""Why the kernel refuses to execute a file: EACCES has more causes than the bits of its mode."""

from __future__ import annotations

import os
import stat

_ANY_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def explain_denial(path: bytes) -> str:
    """Return what is said of a file that could not be executed, and what to do about it."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return "cannot be executed: it is no file"
        if not status.st_mode & _ANY_EXECUTE:
            return "is not executable: set its mode with chmod +x"
        if os.statvfs(path).f_flag & os.ST_NOEXEC:
            return "lies on a file system that is mounted noexec: give it to its interpreter, such as sh or python3"
        interpreter = _read_interpreter(path)
        if interpreter is not None and not os.access(interpreter, os.X_OK):
            return f"names an interpreter in its first line that cannot be executed: {os.fsdecode(interpreter)}"
    except OSError:
        return "cannot be reached: a folder on the way to it is closed to the user of the task"
    return "is not executable for the user of the task: look at its owner and mode"


def _read_interpreter(path: bytes) -> bytes | None:
    try:
        with open(path, "rb") as file:
            head = file.readline(256)
    except OSError:
        return None
    words = head[2:].split() if head.startswith(b"#!") else []
    return words[0] if words else None
