"""Moves the files of an attempt that counts into its job's workspace, one rename at a time.

It may be cut off anywhere and done again, and be done by several at once: what has been moved is no longer at the
source, and what is not there any more is no concern. Both sides are entered by file descriptor and without links, for
tasks write to the workspace meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat

from echelon.shared.volume.artefacts import DEEPEST
from echelon.shared.volume.bundles import is_link_to_bundle
from echelon.shared.volume.layout import FOLDER_MODE

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def merge_folders(source: int, target: int, prefix: str = "") -> list[str]:
    """Move everything from one open folder to another and return the paths that could not be moved.

    Folders are merged, a file takes the place of a file; a file never takes the place of a folder. Entries other than
    files, folders and links stay behind, and so do entries whose mode, set by the task, forbids the move, and folders
    that are too deep to be listed.
    """
    left: list[str] = []
    _unlock_folder(source)
    for name in _list_names(source):
        path = f"{prefix}{name}"
        mode = _mode_of(source, name)
        try:
            if stat.S_ISDIR(mode):
                left += [path] if path.count("/") >= DEEPEST else _merge_folder(source, target, name, path)
            elif mode and not _move_file(source, target, name, mode):
                left.append(path)
        except PermissionError:
            left.append(path)
        except FileNotFoundError:
            if _mode_of(source, name):
                raise
    return left


def _merge_folder(source: int, target: int, name: str, path: str) -> list[str]:
    if _mode_of(target, name) == 0:
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
            return []
        except OSError:
            # Another attempt's folder has come there since; merge with it.
            pass
    inner_source = os.open(name, _FOLDER, dir_fd=source)
    try:
        _make_folder(target, name)
        inner_target = os.open(name, _FOLDER, dir_fd=target)
        try:
            left = merge_folders(inner_source, inner_target, f"{path}/")
        finally:
            os.close(inner_target)
    finally:
        os.close(inner_source)
    if not left:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=source)
    return left


def _unlock_folder(source: int) -> None:
    """Take back what a task may have done to its folder: tools that make it read-only do not mean that files stay."""
    mode = stat.S_IMODE(os.fstat(source).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        # A folder of another user stays as it is; so do its files.
        with contextlib.suppress(PermissionError):
            os.fchmod(source, mode | stat.S_IRWXU)


def _list_names(source: int) -> list[str]:
    """Return what an open folder holds: nothing, when it has been removed since it was opened."""
    try:
        return sorted(os.listdir(source))
    except FileNotFoundError:
        return []


def _make_folder(target: int, name: str) -> None:
    mode = _mode_of(target, name)
    if mode and not stat.S_ISDIR(mode):
        os.unlink(name, dir_fd=target)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, FOLDER_MODE, dir_fd=target)


def _move_file(source: int, target: int, name: str, mode: int) -> bool:
    if stat.S_ISLNK(mode) and is_link_to_bundle(os.readlink(name, dir_fd=source)):
        os.unlink(name, dir_fd=source)
        return True
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        return False
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except IsADirectoryError:
        return False
    return True


def _mode_of(folder: int, name: str) -> int:
    """Return what stands under a name, 0 when nothing does."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0
