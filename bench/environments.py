"""Virtual environments of the other engines: made once, in the user's cache, and used again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

import platformdirs

#: What each engine needs, at the releases that the bench was written with.
REQUIREMENTS = {
    "celery": ("celery[redis]==5.7.0",),
    "dramatiq": ("dramatiq[rabbitmq]==2.2.1", "redis==8.1.0"),
    "huey": ("huey==3.5.4", "redis==8.1.0"),
}


def environment(name: str) -> Path:
    """Return the `bin` folder of an engine's environment, made if it is not there yet."""
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


def versions(name: str) -> dict[str, str]:
    """Return the releases of an engine and what it needs that are installed in its environment."""
    listed = subprocess.run(
        [environment(name) / "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    wanted = {requirement.split("==")[0].split("[")[0] for requirement in REQUIREMENTS[name]} | {"pika", "kombu"}
    return {package: found[package] for package in sorted(wanted) if package in found}
