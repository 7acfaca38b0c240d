"""Writes the engine's own files so that a crash or a full disk leaves the old content or the new, never half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from typing import BinaryIO

from echelon.shared.failpoints import failpoint


def write_file(
    path: str,
    write: Callable[[BinaryIO], None],
    *,
    mode: int = 0o640,
    replace: bool = True,
    folder: int | None = None,
) -> bool:
    """Let `write` fill a file beside `path`, make it durable and give it its name.

    Without `replace` a file that is there already stays, and the return value is False. With `folder`, an open folder,
    the path is the name of a file in it. Raises OSError.
    """
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            write(file)
            file.flush()
            os.fsync(fd)
        failpoint("durable.before_rename")
        if replace:
            os.rename(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.link(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        if replace:
            raise
        return False
    finally:
        # Gone already when it was renamed.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
    if folder is None:
        sync_folder(os.path.dirname(path))
    else:
        os.fsync(folder)
    return True


def write_bytes(path: str, data: bytes, *, mode: int = 0o640, replace: bool = True) -> bool:
    """Write one piece of data; see `write_file`."""

    def write_data(file: BinaryIO) -> None:
        file.write(data)

    return write_file(path, write_data, mode=mode, replace=replace)


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_if_there(path: str) -> None:
    """Remove a file; nothing happens when there is none."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
