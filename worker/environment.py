"""A task's environment: built from nothing, so that the worker's own variables do not leak into it."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from typing import Final

from echelon.shared.errors import EchelonError
from echelon.shared.messages import EnvironmentInput
from echelon.shared.volume.removal import empty_tree
from echelon.worker.runtimes.port import CannotStart

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Set by the engine; a task class cannot set them.
RESERVED: Final = frozenset(
    f"ECHELON_{name}"
    for name in (
        "JOB_ID",
        "TASK_ID",
        "CLAIM",
        "STAGE",
        "INDEX",
        "ATTEMPT",
        "JOB_DIR",
        "TASK_DIR",
        "OUTPUT",
        "SPAWN_FILE",
    )
)


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that every task gets, besides its TMPDIR."""
    return {
        "PATH": environ.get("PATH") or DEFAULT_PATH,
        "HOME": environ.get("HOME") or _find_home(),
        "LANG": environ.get("LANG") or "C.UTF-8",
    }


def read_inputs(inputs: Sequence[EnvironmentInput], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values of inputs from the worker's environment; raise CannotStart if one is missing."""
    values: dict[str, str] = {}
    for entry in inputs:
        value = environ.get(entry.key, entry.default)
        if value is None:
            raise CannotStart(
                f"the environment of this worker has no {entry.key}, which the input {entry.name!r} comes from:"
                " set it where the worker is started, or give the input a default"
            )
        values[entry.name] = value
    return values


def temporary_folder(worker_name: str, parent: str | None) -> str:
    """Return the path of the TMPDIR of a worker's tasks; the path also marks their processes as this worker's."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", worker_name) or "worker"
    return os.path.join(os.path.abspath(parent or tempfile.gettempdir()), f"echelon-{name}")


def tasks_folder(temporary: str) -> str:
    """Return the folder of the TMPDIRs of jobs, if tasks run as another user, who could replace a folder in /tmp."""
    return f"{temporary}/tasks"


def make_temporary_folder(path: str) -> None:
    """Make a folder that only this user can enter; raise EchelonError if the path belongs to another user."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        # A task has put this in the place of the folder.
        os.unlink(path)
        os.mkdir(path, 0o700)
        status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise EchelonError(f"{path} is not a folder of this user: remove it, or set another state folder")
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(path, 0o700)


def remove_temporary_folder(path: str) -> None:
    """Remove the TMPDIR of a worker's tasks with its content, as far as possible."""
    with contextlib.suppress(OSError):
        empty_tree(path)
        os.rmdir(path)


def _find_home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        # A container's passwd file may lack its user.
        return "/"
