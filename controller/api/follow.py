"""Logs that go on until the end: like `tail -f` of every attempt that runs.

A look every fraction of a second: files that run now, files of attempts that have ended since, then a wait. A follower
holds a cursor and the places of what runs, nothing per task.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from echelon.controller.api import texts
from echelon.controller.api.transcripts import STREAMS, AttemptLog, Stream, TranscriptWriter, select_streams
from echelon.controller.api.waiting import has_left
from echelon.controller.core.states import ENDED
from echelon.controller.datastore.encoding import NamedItem
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.records import AttemptView, JobView, TaskView
from echelon.controller.engine.jobs import Jobs
from echelon.shared.errors import Unavailable
from echelon.shared.ids import JobId, TaskId

#: Seconds between looks.
_LOOK = 0.25
#: Seconds between looks while the store is away.
_AWAY = 1.0
#: Attempts whose output is shown while they run; what others print comes when they end.
_AT_ONCE = 64
_PAGE = 500
#: An attempt that prints without end must not keep the others from being heard.
_TURN = 1 << 20

Found = TypeVar("Found")


@dataclass(slots=True)
class _Reading:
    """How far one stream of one attempt has been read."""

    at: int = 0
    decode: texts.Decoder = field(default_factory=texts.Decoder)


class Follower:
    """Follows logs for one client."""

    def __init__(
        self, jobs: Jobs, stopping: threading.Event, connection: socket.socket | None, since: float = 0.0
    ) -> None:
        self._jobs = jobs
        self._stopping = stopping
        self._connection = connection
        #: Attempts that have printed nothing since this time are passed over.
        self._since = since
        self._readings: dict[tuple[AttemptLog, Stream], _Reading] = {}

    def follow_task(self, task: TaskView, *, stream: str | None, attempt: int | None) -> Iterator[bytes]:
        """Yield what a task prints until it has ended; with `attempt` until that attempt has."""
        writer = TranscriptWriter(name_first=False, alone=stream is not None and attempt is not None)
        streams = select_streams(stream)
        number = attempt or max(1, task.attempt)
        while True:
            now = self._load_task(task.task_id)
            over = now is None or now.state in ENDED or now.attempt > number
            log = AttemptLog(task.job_id, task.stage, task.index, number, self._find_claim(now, number))
            for name in streams:
                part = name if attempt else f"attempt {number}, {name}"
                yield from self._read_new_text(writer, log, name, part, final=over)
            if over and now is not None and now.attempt > number and attempt is None:
                number += 1
            elif over or not self._wait_for_change(task.job_id):
                return

    def follow_job(self, job: JobView) -> Iterator[bytes]:
        """Yield what a job's tasks have printed, in the order of their end, and print until it has ended."""
        writer = TranscriptWriter(name_first=True)
        names = {stage.number: stage.name for stage in job.stages}
        labels = self._jobs.label_tasks(job)
        cursor = 0
        while True:
            over = self._is_over(job.job_id)
            for task in self._list_running(job.job_id):
                label = labels.label_task(task.task_class, task.input, task.index)
                log = AttemptLog(job.job_id, task.stage, task.index, task.attempt, task.claim, label)
                yield from self._read_streams(writer, log, names[task.stage], final=False)
            more = True
            while more:
                ended = self._has_job_ended(job.job_id, cursor)
                items = self._find_items(ended)
                for number, view in ended:
                    cursor = max(cursor, number)
                    label = labels.label_task(*items[view.task_id]) if view.task_id in items else None
                    log = AttemptLog(job.job_id, view.stage, view.index, view.attempt, view.claim, label)
                    yield from self._read_streams(writer, log, names[view.stage], final=True)
                more = len(ended) == _PAGE
            if over:
                # Cut off by a cancel: those leave no word of their end.
                for log in sorted({log for log, _ in self._readings}, key=lambda one: (one.stage, one.index)):
                    yield from self._read_streams(writer, log, names[log.stage], final=True)
                return
            if not self._wait_for_change(job.job_id):
                return

    def _read_streams(
        self, writer: TranscriptWriter, log: AttemptLog, stage_name: str, *, final: bool
    ) -> Iterator[bytes]:
        for stream in STREAMS:
            yield from self._read_new_text(writer, log, stream, log.describe_attempt(stage_name, stream), final=final)

    def _read_new_text(
        self, writer: TranscriptWriter, log: AttemptLog, stream: Stream, part: str, *, final: bool
    ) -> Iterator[bytes]:
        """Yield what has come to a file since the last look; after `final` the log is forgotten."""
        reading = self._readings.pop((log, stream), None) if final else self._readings.get((log, stream))
        file = log.open(self._jobs.volume, stream, self._since)
        if file is None:
            return
        if reading is None:
            reading = _Reading()
        if not final:
            self._readings[log, stream] = reading
        turn = 0
        with file:
            file.seek(reading.at)
            while (final or turn < _TURN) and (data := file.read(texts.PIECE)):
                reading.at += len(data)
                turn += len(data)
                yield from writer.write_part(part, reading.decode(data))
        if final:
            yield from writer.write_part(part, reading.decode(b"", final=True))

    def _wait_for_change(self, job_id: JobId) -> bool:
        """Wait a moment; tell whether it is worth going on."""
        began = time.monotonic()
        with suppress(Unavailable):
            # Rung at a job's end, so that a short one is shown as soon as it is over.
            self._jobs.wait_for_end(job_id, _LOOK)
        self._stopping.wait(max(0.0, 0.02 - (time.monotonic() - began)))
        return self._is_wanted()

    def _is_wanted(self) -> bool:
        return not self._stopping.is_set() and not has_left(self._connection)

    def _find_claim(self, task: TaskView | None, number: int) -> int:
        if task is None or task.claim == task.attempt:
            return number
        return self._ask_store(lambda reader: reader.find_claims(task)).get(number, 0)

    def _load_task(self, task_id: TaskId) -> TaskView | None:
        return self._ask_store(lambda reader: reader.find_task(task_id))

    def _list_running(self, job_id: JobId) -> list[TaskView]:
        return self._ask_store(lambda reader: reader.list_running(job_id, limit=_AT_ONCE))

    def _has_job_ended(self, job_id: JobId, after: int) -> list[tuple[int, AttemptView]]:
        return self._ask_store(lambda reader: reader.list_attempts_since(job_id, after=after, limit=_PAGE))

    def _find_items(self, ended: list[tuple[int, AttemptView]]) -> dict[TaskId, NamedItem]:
        """Return what names the tasks of these attempts."""
        task_ids = {view.task_id for _, view in ended}
        return self._ask_store(lambda reader: reader.find_items(task_ids)) if task_ids else {}

    def _is_over(self, job_id: JobId) -> bool:
        view = self._ask_store(lambda reader: reader.find_job(job_id))
        return view is None or view.state in ENDED

    def _ask_store(self, question: Callable[[Reader], Found]) -> Found:
        """Ask the store, however long it is away: the answer has begun and cannot become a 503."""
        while True:
            try:
                with self._jobs.store.read() as reader:
                    return question(reader)
            except Unavailable:
                self._stopping.wait(_AWAY)
                if not self._is_wanted():
                    raise
