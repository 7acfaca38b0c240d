"""Lists a workspace's files in the order of their paths, page by page, without ever following a link.

A folder sorts as its name with a slash, so that walking the tree in order yields the paths in order.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class FoundArtefacts:
    """Some of a job's files."""

    files: list[StoredArtefact]
    #: Entries between them that are no artefacts: links, pipes, names that are not UTF-8, folders that are too deep.
    left_out: int
    #: Other files follow.
    more: bool


def find_files(folder: int, *, after: str = "", limit: int) -> FoundArtefacts:
    """Return up to `limit` regular files below an open folder whose paths sort behind `after`."""
    files: list[StoredArtefact] = []
    left_out = passed = 0
    for one in _walk_folder(folder, "", after, 0):
        if one is None:
            passed += 1
        elif len(files) == limit:
            return FoundArtefacts(files, left_out, more=True)
        else:
            files.append(one)
            left_out, passed = left_out + passed, 0
    return FoundArtefacts(files, left_out + passed, more=False)


def _walk_folder(folder: int, prefix: str, after: str, depth: int) -> Iterator[StoredArtefact | None]:
    """Yield the files of a folder, and None for what is left out."""
    for key, usable in sorted(_sort_keys(folder, prefix, after)):
        if not usable or (key.endswith("/") and depth >= DEEPEST):
            yield None
            continue
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
            yield from _walk_folder(inner, key, after, depth + 1)
        finally:
            os.close(inner)


def _sort_keys(folder: int, prefix: str, after: str) -> Iterator[tuple[str, bool]]:
    """Yield where each entry stands in the order, and whether it is a file or a folder that can be named."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                key = f"{prefix}{entry.name}/" if entry.is_dir(follow_symlinks=False) else f"{prefix}{entry.name}"
                wanted = key > after or (key.endswith("/") and after.startswith(key))
                if wanted:
                    kind = key.endswith("/") or entry.is_file(follow_symlinks=False)
                    yield key, kind and is_printable(entry.name)
            except OSError:
                continue


def limit_time(seconds: float) -> float:
    """Return the nearest moment in the years 1 to 9999."""
    return min(max(seconds, _FIRST), _LAST)


def is_printable(name: str) -> bool:
    """Tell whether a name is UTF-8; another has no place in JSON or in a URL."""
    return name.isascii() or name.isprintable() or name.encode("utf-8", "replace").decode() == name
