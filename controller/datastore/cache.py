"""Jobs as this process last committed them, so that a step of a job loads neither stages nor input.

An entry may be stale: another controller may have changed the job since. It counts only if its etag equals that of
the locked row.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import NamedTuple

import msgspec

from echelon.controller.core.model import Job
from echelon.controller.core.states import ENDED
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId

#: Longest input kept, in characters: the cache may hold thousands of jobs.
INPUT_KEPT = 1024
#: Seconds after which an unused entry is dropped: another controller may have ended the job.
UNUSED_FOR = 600.0


class Entry(msgspec.Struct):
    """A job with its place in the store."""

    key: int
    etag: int
    job: Job
    #: The job's input if it is known and short.
    input: KeptInput | None = None
    #: Last use, on the cache's clock.
    used_at: float = 0.0


class KeptInput(NamedTuple):
    """A job's values, its sealed secrets, its seal and that one's number, as their columns hold them."""

    values: str
    sealed: str | None
    seal: str | None
    seal_number: int


def keep_if_short(kept: KeptInput) -> KeptInput | None:
    """Return a job's input, or None if it is too long to keep."""
    return kept if len(kept.values) + len(kept.sealed or "") <= INPUT_KEPT else None


class JobCache:
    """Keeps the most recently used jobs, up to `capacity` stages in total; safe for any thread."""

    def __init__(self, capacity: int = 20_000, *, now: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._now = now
        self._stages = 0
        self._entries: OrderedDict[JobId, Entry] = OrderedDict()
        self._lock = Lock()

    def find_job(self, job_id: JobId, etag: int) -> Entry | None:
        """Return a job if its entry has this etag."""
        with self._lock:
            entry = self._entries.get(job_id)
            if entry is None or (entry.etag != etag and not ablated("cache_etag")):
                return None
            self._entries.move_to_end(job_id)
            entry.used_at = self._now()
            return entry

    def update_jobs(self, entries: Iterable[Entry], dropped: Iterable[JobId]) -> None:
        """Note what a transaction has committed."""
        now = self._now()
        with self._lock:
            for job_id in dropped:
                self._drop_job(job_id)
            for entry in entries:
                self._drop_job(entry.job.job_id)
                if entry.job.state not in ENDED:
                    entry.used_at = now
                    self._entries[entry.job.job_id] = entry
                    self._stages += len(entry.job.stages)
            while self._stages > self._capacity or self._oldest_used_at() < now - UNUSED_FOR:
                self._drop_job(next(iter(self._entries)))

    def _oldest_used_at(self) -> float:
        return next((entry.used_at for entry in self._entries.values()), math.inf)

    def _drop_job(self, job_id: JobId) -> None:
        entry = self._entries.pop(job_id, None)
        if entry is not None:
            self._stages -= len(entry.job.stages)


class WorkerKeys:
    """The keys of workers; a key never changes and is never given to another worker."""

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._ids: dict[int, str] = {}

    def find_key(self, worker: str) -> int | None:
        """Return a worker's key if it is known here."""
        return self._keys.get(worker)

    def find_worker(self, key: int) -> str | None:
        """Return the worker with a key if it is known here."""
        return self._ids.get(key)

    def add_keys(self, known: dict[str, int]) -> None:
        """Note what a transaction has committed."""
        self._keys.update(known)
        self._ids.update((key, worker) for worker, key in known.items())
