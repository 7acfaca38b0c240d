"""Virtual environments of the other engines, made once in the user's cache and then reused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

import platformdirs

#: The packages of each engine, at the releases with which the bench was written.
REQUIREMENTS = {
    "celery": ("celery[redis]==5.7.0",),
    "dramatiq": ("dramatiq[rabbitmq]==2.2.1", "redis==8.1.0"),
    "huey": ("huey==3.5.4", "redis==8.1.0"),
}


def ensure_environment(name: str) -> Path:
    """Return the `bin` folder of an engine's environment, which is made if it is missing."""
    wanted = "\n".join([sys.version, *REQUIREMENTS[name]])
    key = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    folder = platformdirs.user_cache_path("echelon") / "bench" / f"{name}-{key}"
    made = folder / "made"
    if not made.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS[name]], check=True, stdin=subprocess.DEVNULL)
        made.touch()
    return folder / "bin"


def read_versions(name: str) -> dict[str, str]:
    """Return the installed releases of an engine and its main dependencies."""
    listed = subprocess.run(
        [ensure_environment(name) / "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    wanted = {requirement.split("==")[0].split("[")[0] for requirement in REQUIREMENTS[name]} | {"pika", "kombu"}
    return {package: found[package] for package in sorted(wanted) if package in found}
