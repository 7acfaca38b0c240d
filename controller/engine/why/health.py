"""The condition of all that an engine leans on, and of what its tasks wait for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from echelon.controller.datastore.records import QueueView, WorkerView
from echelon.controller.engine.base.health import EngineHealth, HealthPart
from echelon.controller.engine.dependencies import JobDependencies
from echelon.shared.errors import EchelonError
from echelon.shared.messages import ANY_QUEUE

#: Free files below which a disk counts as full.
_FEW_FILES = 1000
_NAMED = 5
_MIB = 1 << 20


def check_health(parts: JobDependencies) -> EngineHealth:
    """Ask every system that the engine leans on."""
    connected = parts.broker.connected
    return EngineHealth(
        (
            _check_part("store", parts.store.check),
            _check_part("volume", parts.volume.check_present),
            check_disks(parts.disks, parts.min_free),
            HealthPart("broker", connected, parts.broker.condition),
            _check_catalogue(parts),
            *_check_workers(parts),
        )
    )


def _check_part(name: str, check: Callable[[], None]) -> HealthPart:
    try:
        check()
    except EchelonError as error:
        return HealthPart(name, False, str(error))
    return HealthPart(name, True, "answers")


def check_disks(folders: Sequence[str], least: int) -> HealthPart:
    """Tell of the room for files, at least so many bytes; without room every submit fails."""
    found = [_describe_disk(folder, least) for folder in folders]
    full = [words for enough, words in found if not enough]
    return HealthPart("disk", not full, "; ".join(full or [words for _, words in found]))


def ask_disks(folders: Sequence[str]) -> dict[str, os.statvfs_result | None]:
    """Return what the file systems of folders say of themselves; None: one cannot be asked."""
    found: dict[str, os.statvfs_result | None] = {}
    for folder in folders:
        try:
            found[folder] = os.statvfs(folder)
        except OSError:
            found[folder] = None
    return found


def _describe_disk(folder: str, least: int) -> tuple[bool, str]:
    """Return whether a folder's disk has enough room, and how much it has."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return False, f"the disk of {folder} cannot be asked: {error.strerror}"
    room = disk.f_bavail * disk.f_frsize
    words = f"{room // _MIB:,} MiB and {disk.f_favail:,} files free in {folder}"
    if room < least:
        words += f", and {least // _MIB:,} MiB are needed: make room, or set a smaller min_free (ECHELON_MIN_FREE)"
        return False, words
    # Some file systems have no limit of files, and say that they have none.
    if disk.f_files and disk.f_favail < _FEW_FILES and least:
        return False, f"{words}, and {_FEW_FILES:,} files are needed: remove some, old jobs for example"
    return True, words


def _check_catalogue(parts: JobDependencies) -> HealthPart:
    """Tell of the catalogue; a newer file that is not valid is a warning: the last good revision serves on."""
    revision = f"revision {parts.catalogue().revision} is in force"
    problems = parts.catalogue_problems()
    if not problems:
        return HealthPart("catalogue", True, revision, needed=False)
    return HealthPart(
        "catalogue", False, f"{revision}; what lies there now is not valid: {'; '.join(problems)}", needed=False
    )


def _check_workers(parts: JobDependencies) -> tuple[HealthPart, HealthPart]:
    """Tell whether the tasks that wait have workers, and how the workers find the processes that tasks leave."""
    try:
        with parts.store.read() as reader:
            known = reader.list_workers(lost_after=parts.lease)
            queues = reader.count_queues()
    except EchelonError:
        words = "not known without the store"
        return (
            HealthPart("workers", False, words, needed=False, stops_tasks=True),
            HealthPart("processes", False, words, needed=False),
        )
    living = [one for one in known if one.state != "LOST"]
    up, lost = [one for one in living if one.state == "UP"], len(known) - len(living)
    return _describe_workers(up, lost, queues, connected=parts.broker.connected), _describe_processes(living)


def _describe_workers(workers: list[WorkerView], lost: int, queues: list[QueueView], *, connected: bool) -> HealthPart:
    idle = list(_find_unserved(queues, workers))
    if not workers and not connected:
        words = "none can be heard without the broker"
    elif not workers and lost:
        words = f"none is up, so no task runs: {lost} LOST, see their logs, or start one with `echelon worker`"
    elif not workers:
        words = "none is up, so no task runs: start one with `echelon worker`"
    elif idle:
        named = ", ".join(f"{one.queue!r} ({one.ready:,} waiting)" for one in islice(idle, _NAMED))
        more = f" and {len(idle) - _NAMED} more queues" if len(idle) > _NAMED else ""
        words = f"{len(workers)} up, and none takes tasks from {named}{more}"
        words += ": start one with `echelon worker --queue NAME:SLOTS`"
    else:
        words = f"{len(workers)} up, {lost} LOST" if lost else f"{len(workers)} up"
    return HealthPart("workers", bool(workers) and not idle, words, needed=False, stops_tasks=True)


def _describe_processes(workers: list[WorkerView]) -> HealthPart:
    found = Counter(one.containment or "unknown" for one in workers)
    words = [f"{how} ({number} worker{'' if number == 1 else 's'})" for how, number in sorted(found.items())]
    return HealthPart("processes", True, ", ".join(words) or "no worker", needed=False)


def _find_unserved(queues: list[QueueView], workers: list[WorkerView]) -> Iterator[QueueView]:
    served = {queue for worker in workers for queue in worker.slots}
    for one in queues:
        if one.ready and ANY_QUEUE not in served and one.queue not in served:
            yield one
