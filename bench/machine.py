"""On what a run was made: the machine, and the release of everything that took part."""

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

from bench.environments import REQUIREMENTS, versions
from tests.contract.servers import postgresql_binaries
from tests.system.cluster import ROOT


def machine(folder: Path) -> dict[str, str]:
    """Describe the machine; `folder` is where the bench keeps its files."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "file system": _file_system(folder),
    }


def all_versions(contestants: Iterable[str]) -> dict[str, str]:
    """Return the releases of Echelon, of what it leans on and of those who take part."""
    found = {
        "Echelon": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "?",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rabbitmq": _package("rabbitmq-server"),
        "redis": _number(_said("redis-server", "--version")),
        "postgresql": _number(_said(str((postgresql_binaries() or Path()) / "postgres"), "--version")),
    }
    found |= {name: importlib.metadata.version(name) for name in ("flask", "gunicorn", "pika", "sqlalchemy", "psycopg")}
    for name in contestants:
        if name in REQUIREMENTS:
            found |= {f"{name}: {package}": version for package, version in versions(name).items()}
    return {name: version for name, version in found.items() if version}


def _cpuinfo(field: str) -> str:
    found = re.search(rf"^{field}\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def _file_system(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    holding = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(mount[1]))[2]


def _package(name: str) -> str:
    return _said("dpkg-query", "--show", "--showformat=${Version}", name)


def _number(text: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else ""


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
