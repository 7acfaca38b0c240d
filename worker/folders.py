"""Folders of attempts (ECHELON_TASK_DIR), reused while tasks leave them untouched.

To make a folder takes 30 us on ext4, to remove it 50, and both write to the disk; most tasks put nothing there. The
next attempt of the same job gets the folder of an attempt that has left it untouched: its modification time is still
the one set when it was made, the start of 1970. The same holds for the files that a command brings along; only an
attempt with the same files gets a folder with files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Final

import msgspec

from echelon.shared.volume import Volume
from echelon.shared.volume.layout import FOLDER_MODE

#: Most jobs and kinds of files whose spare folders are kept.
_KEPT: Final = 64
_UNTOUCHED: Final = 0
#: Files that a command brings along can be executed.
_FILE_MODE: Final = 0o750


class Files(msgspec.Struct, frozen=True):
    """The files that a command brings along."""

    #: Content by name.
    contents: dict[str, bytes] = {}
    #: Tells them from other files of the same job.
    key: str = ""

    def write_into(self, folder: int, *, owner: int = -1) -> None:
        """Write them into an open folder; raise OSError. `owner`: see `Folders`."""
        for name, content in self.contents.items():
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE, dir_fd=folder)
            with open(file, "wb") as opened:
                opened.write(content)
            if owner >= 0:
                os.chown(name, owner, -1, dir_fd=folder, follow_symlinks=False)
            os.utime(name, ns=(_UNTOUCHED, _UNTOUCHED), dir_fd=folder, follow_symlinks=False)

    def are_untouched(self, path: str) -> bool:
        """Tell whether those in a folder are as they were written; raise OSError if one is gone."""
        return all(
            _is_untouched(os.stat(f"{path}/{name}", follow_symlinks=False), _FILE_MODE) for name in self.contents
        )


NO_FILES: Final = Files()


class Folders:
    """The spare folders of one worker. One thread uses it."""

    def __init__(self, volume: Volume, *, owner: int = -1) -> None:
        """`owner`: the number of the user that the folders are given to; -1: they stay this user's."""
        self._volume, self._owner = volume, owner
        #: By the job's folder of attempts and the key of the files that they hold.
        self._spare: dict[tuple[str, str], list[str]] = {}
        self._files: dict[tuple[str, str], Files] = {}

    def take_folder(self, parent: str, files: Files = NO_FILES) -> str:
        """Return the path of a folder in `parent`, the job's folder of attempts, with these files; raise OSError."""
        spare = self._spare.get((parent, files.key))
        if spare:
            return spare.pop()
        name = f"task-{secrets.token_hex(8)}"
        with self._volume.enter_folder(self._volume.relative_name(parent), make=True) as folder:
            os.mkdir(name, FOLDER_MODE, dir_fd=folder)
            if files.contents:
                self.write_files(f"{parent}/{name}", files)
            if self._owner >= 0:
                os.chown(name, self._owner, -1, dir_fd=folder, follow_symlinks=False)
            os.utime(name, ns=(_UNTOUCHED, _UNTOUCHED), dir_fd=folder, follow_symlinks=False)
        return f"{parent}/{name}"

    def write_files(self, path: str, files: Files) -> None:
        """Write files into the folder of an attempt that is not reused; raise OSError."""
        if files.contents:
            with self._volume.enter_folder(self._volume.relative_name(path)) as folder:
                files.write_into(folder, owner=self._owner)

    def return_folder(self, parent: str, path: str, files: Files = NO_FILES, *, clean: bool) -> bool:
        """Keep the folder of an ended attempt if it is untouched; return whether the attempt has put anything there.

        Clean: no process is left that could use it.
        """
        with contextlib.suppress(OSError):
            status = os.stat(path, follow_symlinks=False)
            if status.st_mtime_ns != _UNTOUCHED:
                return True
            if clean and _is_untouched(status, FOLDER_MODE) and files.are_untouched(path):
                self._keep_spare(parent, path, files)
        return False

    def close(self) -> None:
        for key in list(self._spare):
            self._remove_spare(key)

    def _keep_spare(self, parent: str, path: str, files: Files) -> None:
        key = (parent, files.key)
        if key not in self._spare:
            if len(self._spare) >= _KEPT:
                self._remove_spare(next(iter(self._spare)))
            self._spare[key], self._files[key] = [], files
        self._spare[key].append(path)

    def _remove_spare(self, key: tuple[str, str]) -> None:
        names = self._files.pop(key).contents
        for path in self._spare.pop(key):
            with contextlib.suppress(OSError):
                if names:
                    # Through no link: a task may have put one in the place of the folder.
                    with self._volume.enter_folder(self._volume.relative_name(path)) as folder:
                        for name in names:
                            os.unlink(name, dir_fd=folder)
                os.rmdir(path)


def _is_untouched(status: os.stat_result, mode: int) -> bool:
    return status.st_mtime_ns == _UNTOUCHED and status.st_mode & 0o777 == mode
