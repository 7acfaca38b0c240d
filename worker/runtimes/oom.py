"""Detects out-of-memory kills by the kernel in this worker's control group. Best effort."""

from __future__ import annotations

import os


class MemoryEvents:
    """The out-of-memory kills of this process's control group."""

    def __init__(self) -> None:
        self._path = _find_events_file()
        self._seen = self._count_kills()

    def detect_kill(self) -> bool:
        """Return whether there was a kill since the last call."""
        before, self._seen = self._seen, self._count_kills()
        return self._seen > before

    def _count_kills(self) -> int:
        if self._path is None:
            return 0
        try:
            with open(self._path, encoding="ascii") as file:
                return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
        except (OSError, ValueError, IndexError):
            return 0


def _find_events_file() -> str | None:
    """Return the file with the counter, of cgroup version 2 or 1; None if there is neither."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            candidates = [f"/sys/fs/cgroup/memory{path}/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control"]
        elif not controllers:
            candidates = [f"/sys/fs/cgroup{path}/memory.events", "/sys/fs/cgroup/memory.events"]
        else:
            continue
        for candidate in candidates:
            if os.path.exists(candidate):
                return candidate
    return None
