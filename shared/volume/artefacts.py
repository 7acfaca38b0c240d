"""Lists a workspace's files in the order of their paths, page by page, without ever following a link.

A folder sorts as its name with a slash, so that walking the tree in order yields the paths in order.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Deeper folders are neither listed nor merged: every level holds a file descriptor open.
DEEPEST = 200


#: A file system may know moments that no calendar has.
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0


@dataclass(frozen=True, slots=True)
class StoredArtefact:
    """A file that a job leaves."""

    #: Relative to the workspace.
    path: str
    #: Bytes.
    size: int
    #: Seconds since the Unix epoch.
    modified_at: float


def walk_files(folder: int, *, after: str = "", limit: int) -> Iterator[StoredArtefact]:
    """Yield up to `limit` regular files below an open folder whose paths sort behind `after`."""
    return itertools.islice(_walk_folder(folder, "", after, 0), limit)


def _walk_folder(folder: int, prefix: str, after: str, depth: int) -> Iterator[StoredArtefact]:
    for key in sorted(_sort_keys(folder, prefix, after)):
        name = key[len(prefix) :]
        try:
            if not name.endswith("/"):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                yield StoredArtefact(key, status.st_size, limit_time(status.st_mtime))
                continue
            inner = os.open(name.rstrip("/"), _FOLDER, dir_fd=folder)
        except OSError:
            # Removed or turned into something else since it was listed.
            continue
        try:
            if depth < DEEPEST:
                yield from _walk_folder(inner, key, after, depth + 1)
        finally:
            os.close(inner)


def _sort_keys(folder: int, prefix: str, after: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                key = f"{prefix}{entry.name}/" if entry.is_dir(follow_symlinks=False) else f"{prefix}{entry.name}"
                wanted = key > after or (key.endswith("/") and after.startswith(key))
                if wanted and (key.endswith("/") or entry.is_file(follow_symlinks=False)) and is_printable(entry.name):
                    yield key
            except OSError:
                continue


def limit_time(seconds: float) -> float:
    """Return the nearest moment in the years 1 to 9999."""
    return min(max(seconds, _FIRST), _LAST)


def is_printable(name: str) -> bool:
    """Tell whether a name is UTF-8; another has no place in JSON or in a URL."""
    return name.isascii() or name.isprintable() or name.encode("utf-8", "replace").decode() == name
