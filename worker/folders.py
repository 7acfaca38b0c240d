"""Folders of attempts (ECHELON_TASK_DIR), reused while tasks leave them untouched.

To make a folder takes 30 us on ext4, to remove it 50, and both write to the disk; most tasks put nothing there. The
next attempt of the same job gets the folder of an attempt that has left it untouched: its modification time is still
the one set when it was made, the start of 1970.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Final

from echelon.shared.volume import Volume
from echelon.shared.volume.layout import FOLDER_MODE

#: Most jobs whose spare folders are kept.
_JOBS: Final = 64
_UNTOUCHED: Final = 0


class Folders:
    """The spare folders of one worker. One thread uses it."""

    def __init__(self, volume: Volume, *, owner: int = -1) -> None:
        """`owner`: the number of the user that the folders are given to; -1: they stay this user's."""
        self._volume, self._owner = volume, owner
        self._spare: dict[str, list[str]] = {}

    def take_folder(self, parent: str) -> str:
        """Return the path of an empty folder in `parent`, the job's folder of attempts; raise OSError."""
        spare = self._spare.get(parent)
        if spare:
            return spare.pop()
        name = f"task-{secrets.token_hex(8)}"
        with self._volume.enter_folder(self._volume.relative_name(parent), make=True) as folder:
            os.mkdir(name, FOLDER_MODE, dir_fd=folder)
            if self._owner >= 0:
                os.chown(name, self._owner, -1, dir_fd=folder, follow_symlinks=False)
            os.utime(name, ns=(_UNTOUCHED, _UNTOUCHED), dir_fd=folder, follow_symlinks=False)
        return f"{parent}/{name}"

    def return_folder(self, parent: str, path: str, *, clean: bool) -> bool:
        """Keep the folder of an ended attempt if it is untouched; return whether it holds anything.

        Clean: no process is left that could use it.
        """
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return False
        if status.st_mtime_ns != _UNTOUCHED:
            return True
        if clean and status.st_mode & 0o777 == FOLDER_MODE:
            self._keep_spare(parent, path)
        return False

    def close(self) -> None:
        for spare in self._spare.values():
            _remove_folders(spare)
        self._spare.clear()

    def _keep_spare(self, parent: str, path: str) -> None:
        if parent not in self._spare:
            if len(self._spare) >= _JOBS:
                _remove_folders(self._spare.pop(next(iter(self._spare))))
            self._spare[parent] = []
        self._spare[parent].append(path)


def _remove_folders(paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.rmdir(path)
