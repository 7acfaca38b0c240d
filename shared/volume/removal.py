"""Removes what tasks leave, however deep or locked it is, and never follows a link.

A tree of any depth takes neither recursion nor long paths: a folder within a folder is moved up to the top first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time

from echelon.shared.volume.beneath import FOLDER, unlock_folder


def prune_files(folder: str, *, older_than: float) -> None:
    """Remove the files of a flat folder that were last written so many seconds ago. Several may do it at once."""
    with os.scandir(folder) as entries:
        for one in entries:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - one.stat(follow_symlinks=False).st_mtime > older_than:
                    os.unlink(one.path)


def empty_tree(path: str) -> None:
    """Remove all that the folder at a path holds; see `empty_folder`."""
    folder = os.open(path, FOLDER)
    try:
        empty_folder(folder)
    finally:
        os.close(folder)


def empty_folder(folder: int) -> None:
    """Remove all that an open folder holds, as far as possible; raise the first OSError at the end.

    Several may empty the same folder at once.
    """
    failure: OSError | None = None
    kept: set[str] = set()
    while names := set(os.listdir(folder)) - kept:
        for name in names:
            try:
                _remove_entry(folder, name)
            except FileNotFoundError:
                pass
            except OSError as error:
                failure = failure or error
                kept.add(name)
    if failure is not None:
        raise failure


def _remove_entry(top: int, name: str) -> None:
    """Remove an entry of the top folder; folders in it that are not empty become entries of the top folder."""
    if _remove_simple(top, name):
        return
    unlock_folder(top, name)
    inner = os.open(name, FOLDER, dir_fd=top)
    try:
        for entry in os.listdir(inner):
            with contextlib.suppress(FileNotFoundError):
                if not _remove_simple(inner, entry):
                    # The kernel wants to write into a folder that it moves.
                    unlock_folder(inner, entry)
                    os.rename(entry, secrets.token_hex(8), src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)


def _remove_simple(folder: int, name: str) -> bool:
    """Remove a file, a link or an empty folder; tell whether it was one."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
    return True


def measure_tree(path: str) -> int:
    """Return the bytes of the files in a folder, links not followed; what cannot be read counts nothing."""
    size, folders = 0, [path]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
    return size
