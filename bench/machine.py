"""A description of the machine, and the releases of all programs in a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path

from bench.environments import REQUIREMENTS, read_versions
from tests.contract.servers import postgresql_binaries
from tests.system.cluster import ROOT


def describe_machine(folder: Path) -> dict[str, str]:
    """Describe the machine; `folder` contains the bench's files."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _read_cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "file system": _find_file_system(folder),
    }


def collect_versions(contestants: Iterable[str]) -> dict[str, str]:
    """Return the releases of Echelon, of its dependencies and of the contestants."""
    found = {
        "Echelon": _run_command("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "?",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rabbitmq": _read_package_version("rabbitmq-server"),
        "redis": _find_version(_run_command("redis-server", "--version")),
        "postgresql": _find_version(_run_command(str((postgresql_binaries() or Path()) / "postgres"), "--version")),
    }
    found |= {name: importlib.metadata.version(name) for name in ("flask", "gunicorn", "pika", "sqlalchemy", "psycopg")}
    for name in contestants:
        if name in REQUIREMENTS:
            found |= {f"{name}: {package}": version for package, version in read_versions(name).items()}
    return {name: version for name, version in found.items() if version}


def _read_cpuinfo(field: str) -> str:
    found = re.search(rf"^{field}\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def _find_file_system(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    holding = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(mount[1]))[2]


def _read_package_version(name: str) -> str:
    return _run_command("dpkg-query", "--show", "--showformat=${Version}", name)


def _find_version(text: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else ""


def _run_command(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
