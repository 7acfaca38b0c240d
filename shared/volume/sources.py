"""Which entries of a folder `files/` are brought along: all but what editors and version control leave in it.

Links are followed, as long as they lead to something within the folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from echelon.shared.errors import InvalidInput
from echelon.shared.volume.beneath import kind_of

#: In `files/`: further names and paths to leave out, one a line, with * and ?.
IGNORE_FILE = ".echelonignore"
#: Left out everywhere.
LITTER = (
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", ".#*", "#*#", "*~", "*.swp", "*.swo", ".DS_Store", IGNORE_FILE,
)  # fmt: skip
_LONGEST = 65_536


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A file or a folder that is brought along."""

    #: Its place below the folder, with "/" between the parts.
    name: str
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Tell whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)


def walk_source(root: str, note_dangling: Callable[[str], None] = lambda _: None) -> Iterator[SourceEntry]:
    """Yield what a folder brings along in the order of names, a folder before what it holds.

    A link that leads to nothing is left out and noted. Raises InvalidInput for what cannot be brought along, OSError.
    """
    home = os.path.realpath(root)
    patterns = (*LITTER, *_read_patterns(os.path.join(root, IGNORE_FILE)))
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        names = sorted(os.listdir(os.path.join(root, prefix)))
        folders = []
        for name in names:
            path = f"{prefix}{name}"
            if any(fnmatchcase(name, pattern) or fnmatchcase(path, pattern) for pattern in patterns):
                continue
            try:
                entry = SourceEntry(path, _find_status(root, home, path))
            except FileNotFoundError:
                note_dangling(path)
                continue
            yield entry
            if entry.is_folder:
                folders.append(f"{path}/")
        waiting += reversed(folders)


def _find_status(root: str, home: str, path: str) -> os.stat_result:
    origin = os.path.join(root, path)
    status = os.stat(origin)
    if os.path.islink(origin):
        target = os.path.realpath(origin)
        if not target.startswith(f"{home}/"):
            raise InvalidInput(f"{origin} leads out of {root}: put a copy of the file there")
        if f"{os.path.realpath(os.path.dirname(origin))}/".startswith(f"{target}/"):
            raise InvalidInput(f"{origin} leads to a folder that it stands in: remove the link")
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        raise InvalidInput(f"{origin} {kind_of(status.st_mode)}: only files and folders can be brought along")
    return status


def _read_patterns(file: str) -> list[str]:
    try:
        with open(file, "rb") as opened:
            text = opened.read(_LONGEST + 1).decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 text: save it as UTF-8") from error
    if len(text) > _LONGEST:
        raise InvalidInput(f"{file} is larger than {_LONGEST // 1024} KiB: make its patterns wider")
    lines = (line.strip().strip("/") for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
