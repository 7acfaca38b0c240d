"""Reloads the catalogue when its files change. The last good revision stays in force until a better one is installed.

The `watchdog` library tells that something has happened in the folders; what has changed is then decided by looking,
because editors rename, mounts swap links and events get lost. A slow look without any event makes up for the latter.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.files import list_files
from echelon.controller.catalogue.loader import (
    LoadedCatalogue,
    find_catalogue_files,
    find_files_folders,
    load_catalogue,
)
from echelon.controller.catalogue.mistakes import Mistake
from echelon.shared.clock import Clock, SystemClock
from echelon.shared.errors import EchelonError, InvalidInput

_log = logging.getLogger(__name__)

#: Seconds that the files must have been left alone before they are read: an editor may still be writing.
QUIET = 0.2
#: Seconds between two looks when no event came.
LOOK_EVERY = 5.0
#: Nothing is asked of files that are opened, read or still being written: volume and store may be in the same folder,
#: and each event of theirs would wake a thread.
_EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]

Fingerprint = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class CatalogueLook:
    """The files as they were at one moment, and what came of loading them."""

    fingerprint: Fingerprint
    loaded: LoadedCatalogue


def look_at_files(paths: Sequence[str | Path]) -> CatalogueLook:
    """Load the files; what is wrong with them is returned, never raised."""
    # The fingerprint first: what changes meanwhile is noticed at the next look.
    before = _take_fingerprint(paths)
    return CatalogueLook(before, load_catalogue(paths))


class CatalogueWatcher:
    """Holds the catalogue in force. `current` may be read from any thread; one thread calls `turn` or `run`."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        install: Callable[[Catalogue], None],
        *,
        clock: Clock | None = None,
        first: CatalogueLook | None = None,
        last_good: Callable[[], Catalogue | None] = lambda: None,
    ) -> None:
        """Put the first revision in force: what `first` found (else what is found now), if it is valid.

        If it is not, it is what `last_good` returns; CatalogueError with every mistake when that is None.
        """
        self._paths = [Path(path) for path in paths]
        self._install = install
        self._clock = clock or SystemClock()
        first = first or look_at_files(self._paths)
        self._seen = self._loaded = first.fingerprint
        #: The mistakes of the files as they are now; empty when they are in force.
        self.mistakes: tuple[Mistake, ...] = ()
        self.warnings: tuple[Mistake, ...] = first.loaded.warnings
        fallback = last_good() if first.loaded.catalogue is None else None
        #: The revision in force.
        self.current: Catalogue = fallback or first.loaded.require_valid()
        if fallback is None:
            install(self.current)
        else:
            self._note_mistakes(first.loaded.mistakes)
        self._changed_at = self._looked_at = self._clock.monotonic()
        self._events = _FolderEvents(self._note_event)
        self._stirred = threading.Event()

    def turn(self) -> bool:
        """Look whether the files have changed and been left alone since, and load them if so; tell whether it did."""
        self._events.watch_folders(self._list_folders())
        now = self._clock.monotonic()
        if not self._stirred.is_set() and self._seen == self._loaded and now - self._looked_at < LOOK_EVERY:
            return False
        self._stirred.clear()
        self._looked_at = now
        present = _take_fingerprint(self._paths)
        if present != self._seen:
            self._seen, self._changed_at = present, now
        if present == self._loaded or now - self._changed_at < QUIET:
            return False
        return self._reload_files(present)

    def run(self, stop: threading.Event) -> None:
        """Take turns until told to stop."""
        try:
            while not stop.is_set():
                self.turn()
                self._stirred.wait(QUIET)
                stop.wait(QUIET / 2)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the folders."""
        self._events.close()

    def _note_event(self) -> None:
        self._stirred.set()

    def _reload_files(self, present: Fingerprint) -> bool:
        loaded = load_catalogue(self._paths)
        if _take_fingerprint(self._paths) != present:
            return False
        self.warnings = loaded.warnings
        if loaded.catalogue is None:
            self._loaded = present
            self._note_mistakes(loaded.mistakes)
            return True
        try:
            if loaded.catalogue.revision != self.current.revision:
                self._install(loaded.catalogue)
        except (EchelonError, OSError) as error:
            self._changed_at = self._clock.monotonic() + LOOK_EVERY - QUIET
            self._note_mistakes(
                (Mistake("", 0, 0, f"revision {loaded.catalogue.revision} cannot be installed: {error}"),)
            )
            return True
        self._loaded = present
        self.mistakes = ()
        self.current = loaded.catalogue
        _log.info("catalogue revision %s is in force", loaded.catalogue.revision)
        return True

    def _note_mistakes(self, mistakes: tuple[Mistake, ...]) -> None:
        if mistakes != self.mistakes:
            _log.error(
                "the catalogue is not valid as it is now; revision %s, the last good one, is in force:\n%s",
                self.current.revision,
                "\n".join(str(mistake) for mistake in mistakes),
            )
        self.mistakes = mistakes

    def _list_folders(self) -> dict[str, bool]:
        """Return the folders in which something can happen, and whether what lies deeper counts too."""
        folders: dict[str, bool] = {}
        for path in self._paths:
            folders[os.path.abspath(path if os.path.isdir(path) else path.parent)] = False
        for folder in find_files_folders(find_catalogue_files(self._paths)[0]):
            folders[str(folder)] = True
        return folders


def _take_fingerprint(paths: Sequence[str | Path]) -> Fingerprint:
    """Return what differs whenever the content of the files may differ."""
    found, mistakes = find_catalogue_files(paths)
    marks: list[object] = [str(mistake) for mistake in mistakes]
    marks += [_stamp_file(path) for path in found]
    for folder in find_files_folders(found):
        try:
            marks += [(one.path, one.executable, one.stamp) for one in list_files(folder)]
        except (OSError, InvalidInput) as error:
            marks.append(str(error))
    return tuple(marks)


def _stamp_file(path: Path) -> object:
    try:
        info = path.stat()
    except OSError as error:
        return (str(path), error.errno)
    return (str(path), info.st_mtime_ns, info.st_size, info.st_ino, info.st_dev)


class _FolderEvents(FileSystemEventHandler):
    """Watches a changing set of folders; where the system refuses that, the slow look must do."""

    def __init__(self, stirred: Callable[[], None]) -> None:
        self._stirred = stirred
        self._observer: BaseObserver | None = None
        #: None where the system refused.
        self._watches: dict[tuple[str, bool, int], ObservedWatch | None] = {}

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Pass on that something has happened."""
        self._stirred()

    def watch_folders(self, folders: dict[str, bool]) -> None:
        """Watch these folders and no others; one that was replaced under its name is watched anew."""
        wanted = {(folder, deep, number): folder for folder, deep in folders.items() if (number := _inode_of(folder))}
        for gone in self._watches.keys() - wanted.keys():
            self._end_watch(gone)
        for key in wanted.keys() - self._watches.keys():
            self._begin_watch(key)

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5.0)
        self._observer = None
        self._watches.clear()

    def _begin_watch(self, key: tuple[str, bool, int]) -> None:
        try:
            if self._observer is None:
                self._observer = Observer()
                self._observer.daemon = True
                self._observer.start()
            self._watches[key] = self._observer.schedule(self, key[0], recursive=key[1], event_filter=_EVENTS)
        except (OSError, RuntimeError) as error:
            self._watches[key] = None
            _log.warning("%s cannot be watched (%s); it is looked at every %s s", key[0], error, LOOK_EVERY)

    def _end_watch(self, key: tuple[str, bool, int]) -> None:
        watch = self._watches.pop(key)
        try:
            if self._observer is not None and watch is not None:
                self._observer.unschedule(watch)
        except (OSError, KeyError) as error:
            _log.debug("%s was not watched any more: %s", key[0], error)


def _inode_of(folder: str) -> int | None:
    try:
        return os.stat(folder).st_ino
    except OSError:
        return None
