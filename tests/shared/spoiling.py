"""What a task can do to the folders of its own job, and a process without root's right to overlook modes."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Deed = Callable[[Path, Path], None]
_CAPABILITIES_3 = 0x20080522
#: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH.
_OVERLOOKING = 1 << 1 | 1 << 2


@contextmanager
def without_overlooking_modes() -> Iterator[None]:
    """Let this thread be refused what a folder's mode refuses, as an ordinary user is."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    # Effective, permitted, inheritable; twice, for the low and the high half.
    before, less = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    less[:] = before[:]
    less[0] &= ~_OVERLOOKING
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def _aside(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}-aside"))


def _link(path: Path, victim: Path) -> None:
    _aside(path)
    path.symlink_to(victim)


def _dangling(path: Path, victim: Path) -> None:
    _aside(path)
    path.symlink_to(victim / "not-there")


def _file(path: Path, victim: Path) -> None:
    _aside(path)
    path.write_bytes(b"a file")


def _fifo(path: Path, victim: Path) -> None:
    _aside(path)
    os.mkfifo(path)


def _socket(path: Path, victim: Path) -> None:
    _aside(path)
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as made:
        # The path of a socket is short.
        os.chdir(path.parent)
        made.bind(path.name)
        os.chdir(here)


def _locked(path: Path, victim: Path) -> None:
    path.chmod(0)


def _moved(path: Path, victim: Path) -> None:
    _aside(path)


def make_deep_tree(path: Path) -> None:
    """Make folders within folders, deeper than any path can name."""
    folder = os.open(path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("deep-enough", dir_fd=folder)
        inner = os.open("deep-enough", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)


def _odd(path: Path, victim: Path) -> None:
    """Make entries of odd names, times and modes."""
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b"\x1b[31m", b" ", b"x" * 255, "\u202e".encode(), b"a\\b", b"%2e"):
        Path(os.fsdecode(bytes(path) + b"/" + name)).write_bytes(b"odd")
    for time in (-(2**31), 2**33, 2**40, 2**55):
        late = path / f"late{time}"
        late.write_bytes(b"late")
        os.utime(late, (time, time))
    (path / "locked").mkdir()
    (path / "locked" / "file").write_bytes(b"locked")
    (path / "locked").chmod(0)
    (path / "link").symlink_to(victim)


DEEDS: dict[str, Deed] = {
    "a link": _link,
    "a dangling link": _dangling,
    "a file": _file,
    "a fifo": _fifo,
    "a socket": _socket,
    "mode 000": _locked,
    "moved away": _moved,
    "odd names": _odd,
}
#: The folders of a job, relative to the volume's own of it.
FOLDERS = ("", "work", "attempts", "attempts/0")


def list_victim(victim: Path) -> list[str]:
    """Return all that a folder holds, with the content of its files and its own time."""
    found = [f"{path} {path.read_text() if path.is_file() else ''}" for path in sorted(victim.rglob("*"))]
    return [*found, str(victim.stat().st_mtime_ns)]


def make_victim(folder: Path) -> Path:
    """Make a folder that looks like a job's, so that whoever follows a link finds the way."""
    victim = folder / "victim"
    for name in ("work", "attempts/0", "0"):
        (victim / name).mkdir(parents=True)
    for name in ("spawn.json", "work/spawn.json", "precious"):
        (victim / name).write_text("precious")
    return victim
