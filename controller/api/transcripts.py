"""Puts logs together from what attempts have left on the volume: in order, each part under a line that names it.

A task cannot write such a line: a line of its own that looks like one is shown with a space in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from echelon.controller.api import texts
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.records import SPAWN_INDEX, JobView, TaskView
from echelon.controller.engine.jobs import Jobs
from echelon.shared.ids import JobId
from echelon.shared.volume import Volume

Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
_PAGE = 500
#: Changes of colour, which a terminal does not show.
_COLOURS = rb"(?:\x1b\[[0-9;:]*m)*"
#: A line of a task that looks like the line above a part, and the beginning of a line that may become one.
_FORGED = re.compile(rb"[\r\n]" + _COLOURS + rb"(=)" + _COLOURS + b"=" + _COLOURS + b">")
_BEGUN = re.compile(_COLOURS + b"(?:=" + _COLOURS + rb"){0,2}(?:\x1b(?:\[[0-9;:]*)?)?")
#: A change of colour of which the rest is missing.
_CUT = re.compile(rb"\x1b(?:\[[0-9;:]*)?\Z")
_LONGEST_BEGINNING = 1000


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """Names one attempt by its log on the volume."""

    job_id: JobId
    stage: int
    #: -1 for the spawn task.
    index: int
    attempt: int
    #: Number of its claim, which names its files; 0: it has none yet.
    claim: int
    #: The values of its item; no part of its name.
    label: str | None = field(default=None, compare=False)

    def open(self, volume: Volume, stream: Stream, since: float = 0.0) -> BinaryIO | None:
        """Open what it has printed; None: nothing yet, or nothing since a time."""
        if self.claim < 1:
            return None
        file = volume.open_log(self.job_id, self.stage, self.index, self.claim, stream)
        if file is not None and since and os.fstat(file.fileno()).st_mtime < since:
            file.close()
            return None
        return file

    def describe_attempt(self, stage_name: str, stream: Stream) -> str:
        """Return the words of the line above its output."""
        # A name may hold anything; the line must stay one line.
        shown = "".join(letter if letter.isprintable() else " " for letter in stage_name)
        which = "spawn task" if self.index == SPAWN_INDEX else f"task {self.index}"
        which += f" ({self.label})" if self.label else ""
        return f"stage {self.stage} {shown}, {which}, attempt {self.attempt}, {stream}"


class TranscriptWriter:
    """Writes parts one after the other as `tail` does: a line names each, and begins on a line of its own."""

    def __init__(self, *, name_first: bool, alone: bool = False) -> None:
        #: The part that was written last.
        self._last: str | None = None
        self._name_first = name_first
        #: There is one part only: no line names it, and its text is shown as it is.
        self._alone = alone
        self._at_line_start = True
        #: The beginning of the present line, while it may still become one that looks like ours.
        self._line: bytes | None = b""

    def write_part(self, part: str, text: bytes) -> Iterator[bytes]:
        """Yield text of a part, under its line when it is not the part of before."""
        if not text:
            return
        if part != self._last:
            first, self._last = self._last is None, part
            if self._name_first or not first:
                gap = "" if first else "\n" if self._at_line_start else "\n\n"
                yield f"{gap}==> {part} <==\n".encode()
                self._line = b""
        self._at_line_start = text.endswith(b"\n")
        yield text if self._alone else self._mark_forged(text)

    def _mark_forged(self, text: bytes) -> bytes:
        """Return text of a task with a space in each line that looks like ours; a line may come in several pieces."""
        before = b"x" if self._line is None else b"\n" + self._line
        joined = before + text
        pieces, at = [], len(before)
        if b">" in joined:
            for found in _FORGED.finditer(joined):
                place = max(found.start(1), len(before))
                if place == len(before) and _CUT.search(before):
                    place = joined.index(b"m", place) + 1
                pieces += [joined[at:place], b" "]
                at = place
        pieces.append(joined[at:])
        line = joined[max(joined.rfind(b"\n"), joined.rfind(b"\r")) + 1 :]
        self._line = line if _BEGUN.fullmatch(line) else None
        if self._line is not None and len(line) > _LONGEST_BEGINNING:
            pieces.append(b" ")
            self._line = None
        return b"".join(pieces)


def read_task_log(volume: Volume, log: AttemptLog, stream: str | None, since: float = 0.0) -> Iterator[bytes]:
    """Yield what one attempt has printed; one stream (or both, with a line between them)."""
    writer = TranscriptWriter(name_first=False, alone=stream is not None)
    for name in select_streams(stream):
        file = log.open(volume, name, since)
        if file is not None:
            for piece in texts.decode_file(file):
                yield from writer.write_part(name, piece)


def read_job_log(jobs: Jobs, job: JobView, since: float = 0.0) -> Iterator[bytes]:
    """Yield what all attempts of a job have printed; only of those that have printed something since a time."""
    writer = TranscriptWriter(name_first=True)
    names = {stage.number: stage.name for stage in job.stages}
    labels = jobs.label_tasks(job)
    for task in iterate_tasks(jobs, job.job_id):
        label = labels.label_task(task.task_class, task.input, task.index)
        for attempt, claim in sorted(find_claims(jobs, task).items()):
            log = AttemptLog(job.job_id, task.stage, task.index, attempt, claim, label)
            for stream in STREAMS:
                file = log.open(jobs.volume, stream, since)
                if file is not None:
                    part = log.describe_attempt(names[task.stage], stream)
                    for piece in texts.decode_file(file):
                        yield from writer.write_part(part, piece)


def find_claims(jobs: Jobs, task: TaskView) -> dict[int, int]:
    """Return by number the claims of a task's attempts, those that run included."""
    if task.claim == task.attempt:
        # As nearly always: no claim has ended without a start.
        return {number: number for number in range(1, task.attempt + 1)}
    with jobs.store.read() as reader:
        return reader.find_claims(task)


def iterate_tasks(jobs: Jobs, job_id: JobId) -> Iterator[TaskView]:
    """Yield a job's tasks in order; no transaction stays open between two pages."""
    cursor = None
    while True:
        with jobs.store.read() as reader:
            found = reader.list_tasks(job_id, TaskFilter(), limit=_PAGE, cursor=cursor)
        yield from found.items
        cursor = found.next_cursor
        if cursor is None:
            return


def select_streams(stream: str | None) -> tuple[Stream, ...]:
    """Return the streams that are wanted."""
    if stream is None:
        return STREAMS
    return ("stdout",) if stream == "stdout" else ("stderr",)
