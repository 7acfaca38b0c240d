"""CPU time and peak memory of processes, from /proc/PID/stat and /proc/PID/status."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
#: Parts whose children start and end with connections. Ended children of other parts are tasks.
_SERVERS = ("broker", "database")
TASKS = "tasks"


def list_processes(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                children[int(_read_stat(int(entry))[1])].append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return found


def read_cpu(parts: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds so far of each part ("worker 1" and "worker 2" are one) and of the ended tasks."""
    used: dict[str, float] = defaultdict(float)
    for name, root in parts.items():
        part = name.rstrip(" 0123456789")
        for pid in list_processes(root):
            with suppress(OSError):
                own, children = _read_cpu_times(pid)
                used[part] += own
                used[part if part in _SERVERS else TASKS] += children
    return dict(used)


def reset_peaks(parts: Mapping[str, int]) -> None:
    """Reset the peak memory of every process to its present memory."""
    for root in parts.values():
        for pid in list_processes(root):
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def read_peaks(parts: Mapping[str, int]) -> dict[str, float]:
    """Return the peak resident MiB of each part's largest process."""
    return {name: max(_read_mib(pid, "VmHWM") for pid in list_processes(root)) for name, root in parts.items()}


def read_own_memory(parts: Mapping[str, int]) -> dict[str, float]:
    """Return the anonymous MiB of each part's largest process, without mapped databases and libraries."""
    return {name: max(_read_mib(pid, "RssAnon") for pid in list_processes(root)) for name, root in parts.items()}


def measure_busy_cores(seconds: float = 0.5) -> float:
    """Return how many cores were busy, on average, over the next seconds."""
    first, begun = _read_machine_cpu(), time.monotonic()
    time.sleep(seconds)
    return (_read_machine_cpu() - first) / (time.monotonic() - begun)


def _read_machine_cpu() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK


def _read_stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, ppid, ..."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _read_cpu_times(pid: int) -> tuple[float, float]:
    fields = _read_stat(pid)
    user, system, children_user, children_system = map(int, fields[11:15])
    return (user + system) * _TICK, (children_user + children_system) * _TICK


def _read_mib(pid: int, field: str) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    return 0.0
