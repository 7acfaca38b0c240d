"""The folder `files/` beside the catalogue: lists, counts and digests its files; copies nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from echelon.shared.errors import InvalidInput
from echelon.shared.volume.sources import walk_source

FOLDER = "files"
MAX_FILES = 10_000
MAX_BYTES = 256 << 20
_CHUNK = 1 << 20


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


def list_files(folder: Path, note_dangling: Callable[[str], None] = lambda _: None) -> list[CatalogueFile]:
    """Return the files that a folder brings along, in the order of their paths; links to nothing are noted.

    Raises InvalidInput when there are too many, they are too large, a name is not text, or one cannot be brought along.
    """
    found: list[CatalogueFile] = []
    size = 0
    for entry in walk_source(str(folder), note_dangling):
        if not entry.name.isprintable():
            raise InvalidInput(f"the name {entry.name!a} is not plain text; rename the file")
        if entry.is_folder:
            continue
        info = entry.status
        stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
        executable = bool(info.st_mode & stat.S_IXUSR)
        found.append(CatalogueFile(entry.name, folder / entry.name, info.st_size, executable, stamp))
        size += info.st_size
        if len(found) > MAX_FILES:
            raise InvalidInput(f"more than {MAX_FILES} files; keep data on the volume or fetch it in a task")
        if size > MAX_BYTES:
            raise InvalidInput(f"more than {MAX_BYTES >> 20} MiB; keep data on the volume or fetch it in a task")
    return sorted(found, key=lambda one: one.path)


def digest_folder(folder: Path, note_dangling: Callable[[str], None] = lambda _: None) -> str:
    """Return a hash of all names, contents and executable bits in a folder, so that a copy can be held against it."""
    total = hashlib.sha256()
    for one in list_files(folder, note_dangling):
        total.update(f"{one.path}\0{int(one.executable)}\0".encode())
        total.update(_content_digest(one.source))
    return total.hexdigest()


def _content_digest(path: Path) -> bytes:
    content = hashlib.sha256()
    # A pipe that took the file's place since it was listed is not waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        while chunk := file.read(_CHUNK):
            content.update(chunk)
    return content.digest()
