"""Opens what tasks may have planted or replaced: below a given folder, no link on the way, never blocking.

It opens files to read, new files to write, and folders, which it makes where they are missing. openat2 does it in one
system call. Where it is missing (kernel before 5.6, a seccomp filter), the path is walked one part at a time with
O_NOFOLLOW, which comes to the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from typing import Final

_OPENAT2: Final = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
#: No way to open: treated as if nothing were there. ELOOP: a link; EXDEV: out of the folder; ENXIO: a FIFO or socket.
REFUSED: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENXIO, errno.ENODEV, errno.EINVAL, errno.ENAMETOOLONG}
)
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class NotRegular(OSError):
    """The path is not a regular file."""


def open_beneath(folder: int, path: str, flags: int = _READ, mode: int = 0) -> int:
    """Open a relative path below an open folder and return the file descriptor; raise OSError.

    The mode is that of a file that the flags allow to be made.
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path holds a NUL character", path)
    fd = _openat2(folder, path, flags, mode)
    return _open_stepwise(folder, path, flags, mode) if fd is None else fd


def open_folder(folder: int, path: str, *, make: int | None = None) -> int:
    """Open a folder below an open one; with `make`, a mode, make what is missing of the path. Raise OSError."""
    try:
        return open_beneath(folder, path, FOLDER)
    except FileNotFoundError:
        if make is None:
            raise
    parent, _, name = path.rpartition("/")
    if not parent:
        make_folder(folder, name, make)
        return open_beneath(folder, name, FOLDER)
    above = open_folder(folder, parent, make=make)
    try:
        make_folder(above, name, make)
        return open_beneath(above, name, FOLDER)
    finally:
        os.close(above)


def open_unlocked(folder: int, path: str) -> int:
    """Open a folder below an open one, and give the rights to it back to its owner where they are missing.

    Raises OSError, PermissionError for a folder of another user.
    """
    try:
        return open_beneath(folder, path, FOLDER)
    except PermissionError:
        parent, _, name = path.rpartition("/")
        if not parent:
            unlock_folder(folder, name)
            return open_beneath(folder, name, FOLDER)
    above = open_unlocked(folder, parent)
    try:
        return open_unlocked(above, name)
    finally:
        os.close(above)


def make_folder(folder: int, name: str, mode: int) -> None:
    """Make a folder directly in an open one, unless something has that name; raise OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=folder)


def find_obstacle(folder: int, path: str) -> str | None:
    """Say which part of a path to a folder is no folder, or one that its owner may not use; None: none is.

    Parts that do not exist are no obstacle: they can be made.
    """
    passed = ""
    for part in path.split("/"):
        passed = f"{passed}/{part}" if passed else part
        try:
            handle = open_beneath(folder, passed, _HANDLE)
        except OSError:
            return None
        try:
            mode = os.fstat(handle).st_mode
        finally:
            os.close(handle)
        if not stat.S_ISDIR(mode):
            return f"{passed} {kind_of(mode)}"
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            return f"{passed} has mode {stat.S_IMODE(mode):03o}"
    return None


def unlock_folder(folder: int, name: str) -> None:
    """Give the rights to a folder back to its owner, whatever a task has done to its mode; raise OSError."""
    handle = os.open(name, _HANDLE | os.O_DIRECTORY, dir_fd=folder)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            # A handle is no open file: its mode can be set by this name alone.
            os.chmod(f"/proc/self/fd/{handle}", mode | stat.S_IRWXU)
    finally:
        os.close(handle)


def open_regular(folder: int, path: str, *, single_link: bool = False) -> tuple[int, os.stat_result]:
    """Open a regular file to read; with `single_link` refuse one that has another name elsewhere.

    Raises NotRegular, or the OSError that the kernel gives.
    """
    fd = open_beneath(folder, path)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and not (single_link and status.st_nlink != 1):
        return fd, status
    os.close(fd)
    what = "has a second name elsewhere (a hard link)" if stat.S_ISREG(status.st_mode) else kind_of(status.st_mode)
    raise NotRegular(errno.EINVAL, what, path)


def kind_of(mode: int) -> str:
    """Return what a file is, for people."""
    kinds = {
        stat.S_IFDIR: "is a directory",
        stat.S_IFLNK: "is a symbolic link",
        stat.S_IFIFO: "is a FIFO",
        stat.S_IFSOCK: "is a socket",
        stat.S_IFBLK: "is a device",
        stat.S_IFCHR: "is a device",
        stat.S_IFREG: "is a file",
    }
    return kinds.get(stat.S_IFMT(mode), "is not a regular file")


def _openat2(folder: int, path: str, flags: int, mode: int) -> int | None:
    """Return the file descriptor, or None where the kernel does not offer the call."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    name = os.fsencode(path)
    for _ in range(10):
        fd: int = _syscall(_OPENAT2, folder, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        error = ctypes.get_errno()
        # EAGAIN: something was renamed while the path was looked up.
        if error not in (errno.EAGAIN, errno.EINTR):
            break
    if error in (errno.ENOSYS, errno.EPERM):
        return None
    raise OSError(error, os.strerror(error), path)


def _open_stepwise(folder: int, path: str, flags: int, mode: int) -> int:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    *folders, name = [part for part in parts if part not in ("", ".")] or ["."]
    current = folder
    try:
        for part in folders:
            entered = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            if current != folder:
                os.close(current)
            current = entered
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=current)
    finally:
        if current != folder:
            os.close(current)


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long
