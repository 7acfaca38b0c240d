"""Opens files that a task may have planted: below a given folder, no link on the way, never blocking.

openat2 does it in one system call. Where it is missing (kernel before 5.6, a seccomp filter), the path is walked one
part at a time with O_NOFOLLOW, which comes to the same.
"""

from __future__ import annotations

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
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class NotRegular(OSError):
    """The path is not a regular file."""


def open_beneath(folder: int, path: str, flags: int = _READ) -> int:
    """Open a relative path below an open folder and return the file descriptor; raise OSError."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path holds a NUL character", path)
    fd = _openat2(folder, path, flags)
    return _open_stepwise(folder, path, flags) if fd is None else fd


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


def _openat2(folder: int, path: str, flags: int) -> int | None:
    """Return the file descriptor, or None where the kernel does not offer the call."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
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


def _open_stepwise(folder: int, path: str, flags: int) -> int:
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
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
    finally:
        if current != folder:
            os.close(current)


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long
