"""The folder `files/` beside the catalogue: lists, counts and digests its files; copies nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from echelon.shared.errors import InvalidInput

FOLDER = "files"
MAX_FILES = 10_000
MAX_BYTES = 256 << 20
_CHUNK = 1 << 20
#: Python makes these beside a script that was run in the folder.
_SKIPPED = frozenset({"__pycache__"})


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """A regular file within the folder."""

    #: Its place below the folder, with "/" between the parts.
    path: str
    source: Path
    size: int
    executable: bool
    #: Changes whenever the content may have changed.
    stamp: tuple[int, int, int]


def list_files(folder: Path) -> list[CatalogueFile]:
    """Return the regular files of a folder in the order of their paths; symlinks and special files are left out.

    Raises InvalidInput when there are too many, they are too large or a name is not text.
    """
    found: list[CatalogueFile] = []
    size = 0
    for entry in _walk_folder(folder):
        path = Path(entry.path)
        info = entry.stat(follow_symlinks=False)
        relative = path.relative_to(folder).as_posix()
        if not relative.isprintable():
            raise InvalidInput(f"the name {relative!a} is not plain text; rename the file")
        stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
        found.append(CatalogueFile(relative, path, info.st_size, bool(info.st_mode & stat.S_IXUSR), stamp))
        size += info.st_size
        if len(found) > MAX_FILES:
            raise InvalidInput(f"more than {MAX_FILES} files; keep data on the volume or fetch it in a task")
        if size > MAX_BYTES:
            raise InvalidInput(f"more than {MAX_BYTES >> 20} MiB; keep data on the volume or fetch it in a task")
    return sorted(found, key=lambda one: one.path)


def _walk_folder(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED:
                    yield from _walk_folder(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry


def digest_folder(folder: Path) -> str:
    """Return a hash of all names, contents and executable bits in a folder, so that a copy can be held against it."""
    total = hashlib.sha256()
    for one in list_files(folder):
        total.update(f"{one.path}\0{int(one.executable)}\0".encode())
        total.update(_content_digest(one.source))
    return total.hexdigest()


def _content_digest(path: Path) -> bytes:
    content = hashlib.sha256()
    # A link that took the file's place since it was listed is not followed.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        while chunk := file.read(_CHUNK):
            content.update(chunk)
    return content.digest()
