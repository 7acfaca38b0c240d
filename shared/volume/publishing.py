"""Moves the files of an attempt that counts into its job's workspace, one rename at a time.

It may be cut off anywhere and done again, and be done by several at once: what has been moved is no longer at the
source, and what is not there any more is no concern. Both sides are entered by file descriptor and without links, for
tasks write to the workspace meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from echelon.shared.volume import beneath
from echelon.shared.volume.artefacts import DEEPEST
from echelon.shared.volume.bundles import is_link_to_bundle


def merge_folders(source: int, target: int, prefix: str = "") -> list[str]:
    """Move everything from one open folder to another and return the paths that could not be moved.

    Folders are merged, a file takes the place of a file; a file never takes the place of a folder. Folders that a task
    has locked are unlocked, and stay so: another attempt may be publishing into them. FIFOs, sockets and devices are no
    files and stay behind. So do folders of another user, and folders that are too deep to be listed.
    """
    left: list[str] = []
    _unlock_folder(source)
    _unlock_folder(target)
    for name in _list_names(source):
        path = f"{prefix}{name}"
        mode = _mode_of(source, name)
        try:
            if stat.S_ISDIR(mode):
                left += [path] if path.count("/") >= DEEPEST else _merge_folder(source, target, name, path)
            elif not _move_file(source, target, name, mode):
                left.append(path)
        except PermissionError:
            left.append(path)
        except FileNotFoundError:
            if _mode_of(source, name):
                raise
    return left


def find_hindered(source: int, target: int, prefix: str = "") -> list[str]:
    """Return the paths that `merge_folders` would not move as things are. Folders are unlocked as it does."""
    hindered: list[str] = []
    _unlock_folder(source)
    for name in _list_names(source):
        path = f"{prefix}{name}"
        mode, there = _mode_of(source, name), _mode_of(target, name)
        if stat.S_ISDIR(mode) and path.count("/") >= DEEPEST:
            hindered.append(path)
        elif stat.S_ISDIR(mode) and stat.S_ISDIR(there):
            try:
                with _enter_both(source, target, name) as (inner_source, inner_target):
                    hindered += find_hindered(inner_source, inner_target, f"{path}/")
            except PermissionError:
                hindered.append(path)
        elif stat.S_ISDIR(there) and _is_movable(mode) and not _is_bundled(source, name, mode):
            hindered.append(path)
    return hindered


def _merge_folder(source: int, target: int, name: str, path: str) -> list[str]:
    # The kernel wants to write into a folder that it moves.
    beneath.unlock_folder(source, name)
    there = _mode_of(target, name)
    if not stat.S_ISDIR(there):
        if there:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=target)
        try:
            # Moved, not made anew: it keeps its owner, so that later tasks can write into it.
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
            return []
        except OSError:
            # Another attempt's folder has come there since; merge with it.
            pass
    with _enter_both(source, target, name) as (inner_source, inner_target):
        left = merge_folders(inner_source, inner_target, f"{path}/")
    if not left:
        with contextlib.suppress(FileNotFoundError):
            _remove_folder(source, name)
    return left


@contextlib.contextmanager
def _enter_both(source: int, target: int, name: str) -> Iterator[tuple[int, int]]:
    """Open the folder of this name in both, unlocked."""
    inner_source = beneath.open_unlocked(source, name)
    try:
        inner_target = beneath.open_unlocked(target, name)
        try:
            yield inner_source, inner_target
        finally:
            os.close(inner_target)
    finally:
        os.close(inner_source)


def _unlock_folder(folder: int) -> None:
    """Take back what a task may have done to its folder: tools that make it read-only do not mean that files stay."""
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        # A folder of another user stays as it is; so do its files.
        with contextlib.suppress(PermissionError):
            os.fchmod(folder, mode | stat.S_IRWXU)


def _list_names(source: int) -> list[str]:
    """Return what an open folder holds: nothing, when it has been removed since it was opened."""
    try:
        return sorted(os.listdir(source))
    except FileNotFoundError:
        return []


def _remove_folder(folder: int, name: str) -> None:
    """Remove a folder whose files have been moved; FIFOs and the like that are left in it stay, with it."""
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _move_file(source: int, target: int, name: str, mode: int) -> bool:
    """Move a file or a link; return False when a folder has its place in the target."""
    if _is_bundled(source, name, mode):
        os.unlink(name, dir_fd=source)
    elif _is_movable(mode):
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        except IsADirectoryError:
            return False
    return True


def _is_movable(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _is_bundled(folder: int, name: str, mode: int) -> bool:
    return stat.S_ISLNK(mode) and is_link_to_bundle(os.readlink(name, dir_fd=folder))


def _mode_of(folder: int, name: str) -> int:
    """Return what stands under a name, 0 when nothing does."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0
