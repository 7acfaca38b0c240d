"""Lists a workspace's files in the order of their paths, page by page, without ever following a link.

A folder sorts as its name with a slash, so that walking the tree in order yields the paths in order.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from echelon.shared.volume.bundles import is_link_to_bundle

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Deeper folders are neither listed nor merged: every level holds a file descriptor open.
DEEPEST = 200
#: Entries of a folder that is remembered, how many folders are, and the seconds for which they must not have changed.
_LARGE: Final = 1_000
_REMEMBERED: Final = 4
_SETTLED: Final = 2.0
#: Names in the order of paths, those of folders with a slash, and whether each can be named.
Entries: TypeAlias = list[tuple[str, bool]]


#: A file system may know moments that no calendar has: the years 2 to 9998 can be shown in every zone.
_FIRST, _LAST = -62_104_060_800.0, 253_370_764_800.0


@dataclass(frozen=True, slots=True)
class StoredArtefact:
    """A file that a job leaves."""

    #: Relative to the workspace.
    path: str
    #: Bytes.
    size: int
    #: Seconds since the Unix epoch; None: a moment that cannot be shown.
    modified_at: float | None


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


def iterate_files(folder: int) -> Iterator[StoredArtefact]:
    """Yield all regular files below an open folder, by path, in one walk."""
    for one in _walk_folder(folder, "", "", 0):
        if one is not None:
            yield one


def _walk_folder(folder: int, prefix: str, after: str, depth: int) -> Iterator[StoredArtefact | None]:
    """Yield the files of a folder, and None for what is left out."""
    entries = _listings.list_entries(folder)
    for at in range(_find_start(entries, after[len(prefix) :] if after.startswith(prefix) else ""), len(entries)):
        name, usable = entries[at]
        if not usable or (name.endswith("/") and depth >= DEEPEST):
            yield None
            continue
        try:
            if not name.endswith("/"):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                yield StoredArtefact(prefix + name, status.st_size, show_time(status.st_mtime))
                continue
            inner = os.open(name.rstrip("/"), _FOLDER, dir_fd=folder)
        except OSError:
            # Removed or turned into something else since it was listed.
            continue
        try:
            yield from _walk_folder(inner, prefix + name, after, depth + 1)
        finally:
            os.close(inner)


def _find_start(entries: Entries, after: str) -> int:
    """Return where the entries of a folder begin that lie behind a path in it, or around it."""
    if not after:
        return 0
    start = bisect_right(entries, (after, True))
    around = entries[start - 1][0] if start else ""
    return start - 1 if around.endswith("/") and after.startswith(around) else start


class _Listings:
    """Remembers the entries of a few large folders: a list in pages would read and sort the folder anew for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By device, inode and the time of the last change of the folder.
        self._known: OrderedDict[tuple[int, int, int], Entries] = OrderedDict()

    def list_entries(self, folder: int) -> Entries:
        """Return the entries of an open folder in the order of paths, and whether each can be named."""
        status = os.fstat(folder)
        key = (status.st_dev, status.st_ino, status.st_ctime_ns)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        entries = sorted(_read_entries(folder))
        # A change within the same tick of the clock would go unnoticed.
        if len(entries) >= _LARGE and time.time() - status.st_ctime > _SETTLED:
            with self._lock:
                self._known[key] = entries
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return entries


_listings: Final = _Listings()


def _read_entries(folder: int) -> Iterator[tuple[str, bool]]:
    """Yield where each entry stands in the order, and whether it is a file or a folder that can be named.

    Files of the catalogue are no entries: the engine has linked them into the workspace, and no task has left them.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_symlink() and is_link_to_bundle(os.readlink(entry.name, dir_fd=folder)):
                    continue
                name = f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                kind = name.endswith("/") or entry.is_file(follow_symlinks=False)
                yield name, kind and is_printable(entry.name)
            except OSError:
                continue


def show_time(seconds: float) -> float | None:
    """Return a moment, or None when no calendar has it."""
    return seconds if _FIRST <= seconds < _LAST else None


def is_printable(name: str) -> bool:
    """Tell whether a name is UTF-8; another has no place in JSON or in a URL."""
    return name.isascii() or name.isprintable() or name.encode("utf-8", "replace").decode() == name
