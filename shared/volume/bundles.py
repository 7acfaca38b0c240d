"""The ``files/`` of a catalogue, copied to the volume once per revision and linked into workspaces.

A workspace gets symbolic links, not copies, so a job costs a link per file however large the files are. Links are
relative: the volume may be mounted elsewhere on every machine.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from echelon.shared.volume.beneath import REFUSED, open_folder
from echelon.shared.volume.durable import sync_folder
from echelon.shared.volume.layout import FOLDER_MODE, REVISIONS
from echelon.shared.volume.sources import walk_source

#: Beside `files/`, while it is being copied.
_UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Bundle:
    """The names in one revision's ``files/``, relative to it; a folder stands before what it holds."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


def read_bundle(folder: str) -> Bundle:
    """Return what a folder holds; of a folder that is not there, nothing."""
    folders: list[str] = []
    files: list[str] = []
    for name, mode in _walk_tree(folder, ""):
        (folders if stat.S_ISDIR(mode) else files).append(name)
    return Bundle(tuple(folders), tuple(files))


def _walk_tree(root: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        names = sorted(os.listdir(os.path.join(root, prefix)))
    except FileNotFoundError:
        return
    for name in names:
        path = f"{prefix}{name}"
        mode = os.stat(os.path.join(root, path)).st_mode
        yield path, mode
        if stat.S_ISDIR(mode):
            yield from _walk_tree(root, f"{path}/")


def install_bundle(source: str | None, target: str) -> None:
    """Copy a folder to `target`, durably and all at once; a target that is there already stays as it is.

    Files that `walk_source` leaves out are not copied. Raises InvalidInput, OSError.
    """
    if os.path.isdir(target):
        return
    parent = os.path.dirname(target)
    os.makedirs(parent, FOLDER_MODE, exist_ok=True)
    unfinished = f"{target}.{_UNFINISHED}-{secrets.token_hex(8)}"
    os.mkdir(unfinished, FOLDER_MODE)
    try:
        if source is not None and os.path.isdir(source):
            _copy_tree(source, unfinished)
        sync_folder(unfinished)
        os.rename(unfinished, target)
    except OSError:
        # Another process was first: the same revision has the same files.
        if not os.path.isdir(target):
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    sync_folder(parent)


def _copy_tree(source: str, target: str) -> None:
    for entry in walk_source(source):
        origin, copy = os.path.join(source, entry.name), os.path.join(target, entry.name)
        if entry.is_folder:
            os.mkdir(copy, FOLDER_MODE)
        else:
            _copy_file(origin, copy, 0o555 if entry.status.st_mode & 0o111 else 0o444)


def _copy_file(origin: str, copy: str, mode: int) -> None:
    with open(origin, "rb") as reader, open(copy, "xb") as writer:
        shutil.copyfileobj(reader, writer, 1024 * 1024)
        writer.flush()
        os.fchmod(writer.fileno(), mode)
        os.fsync(writer.fileno())


def link_into(workspace: int, bundle: Bundle, *, way: str) -> None:
    """Link a bundle's files into an open folder; `way` leads from there to the bundle. Existing entries stay."""
    for name in bundle.folders:
        _add_entry(workspace, name, partial(os.mkdir, mode=FOLDER_MODE))
    for name in bundle.files:
        _add_entry(workspace, name, partial(os.symlink, f"{'../' * name.count('/')}{way}/{name}"))


def is_link_to_bundle(target: str) -> bool:
    """Tell whether a symbolic link with this target was made by `link_into`."""
    above, found, inner = target.partition(f"../{REVISIONS}/")
    return bool(found) and above.count("../") >= 2 and not above.replace("../", "") and "/files/" in inner


def _add_entry(workspace: int, name: str, add: Callable[..., None]) -> None:
    """Let `add` make an entry below an open folder; what a task has put in its way stays."""
    above, _, last = name.rpartition("/")
    try:
        parent = open_folder(workspace, above) if above else os.dup(workspace)
        try:
            add(last, dir_fd=parent)
        finally:
            os.close(parent)
    except FileExistsError:
        pass
    except OSError as error:
        if not above or error.errno not in (*REFUSED, errno.EACCES, errno.EPERM):
            raise
