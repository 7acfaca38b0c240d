"""A job of this process, for `run` to follow: in the format of the REST interface, like one of a controller."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from echelon.controller.api import render
from echelon.controller.api.transcripts import read_job_log
from echelon.controller.commands.artefacts import tell_left_out
from echelon.controller.commands.screen import print_message
from echelon.controller.core.answers import Verb
from echelon.controller.engine.jobs import Jobs
from echelon.controller.engine.why.errors import READ_AT_MOST
from echelon.controller.shapes import Job, JobArtefact, JobErrors, Task
from echelon.shared.errors import Conflict, NotFound
from echelon.shared.ids import JobId, TaskId

#: Seconds between two looks at the job; its end is noticed at once.
_POLL: Final = 0.2
_TAIL: Final = 8192


class LocalJob:
    """A job of the engine in this process; it is cancelled on request or after its timeout."""

    def __init__(self, jobs: Jobs, job_id: JobId, *, timeout: float | None = None) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._cancelled = False
        #: Set it to cancel the job.
        self.cancel_requested = threading.Event()
        self.timed_out = False

    def wait_for_change(self) -> Job:
        """Return the job when it has ended, or after a moment; cancel it if requested or timed out."""
        self._jobs.wait_for_end(self._job_id, _POLL)
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.timed_out = self.timed_out or not self._cancelled
            self.cancel_requested.set()
        if self.cancel_requested.is_set() and not self._cancelled:
            self._cancelled = True
            # It may have ended by itself in the meantime.
            with suppress(Conflict):
                self._jobs.control.change_job(Verb.CANCEL, self._job_id)
        return self.render_job()

    def render_job(self) -> Job:
        """Return the job as it is."""
        with self._jobs.store.read() as reader:
            found = reader.find_job(self._job_id)
        if found is None:
            raise NotFound(f"job {self._job_id} does not exist any more")
        return render.render_job(found, self._jobs.masked_input(found))

    def list_errors(self) -> JobErrors:
        """Return why its tasks are FAILED, in groups."""
        with self._jobs.store.read() as reader:
            found, failures = reader.find_job(self._job_id), reader.list_failures(self._job_id, limit=READ_AT_MOST)
        if found is None:
            raise NotFound(f"job {self._job_id} does not exist any more")
        return render.render_errors(found, failures, self._jobs.label_tasks(found))

    def find_task(self, task_id: str) -> Task:
        """Return one of its tasks."""
        with self._jobs.store.read() as reader:
            found, view = reader.find_job(self._job_id), reader.find_task(TaskId(task_id))
        if found is None or view is None:
            raise NotFound(f"there is no task {task_id}")
        return render.render_task(view, self._jobs.label_tasks(found))

    def read_stderr(self, task: Task) -> Iterable[str]:
        """Return the end of the stderr of a task's last attempt."""
        with self._jobs.store.read() as reader:
            found = reader.find_task(TaskId(task["task_id"]))
        if found is None:
            return ()
        # A log is named by its claim: the number of an attempt leaves out claims without a start.
        file = self._jobs.volume.open_log(self._job_id, found.stage, found.index, found.claim, "stderr")
        if file is None:
            return ()
        with file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            return (file.read(_TAIL).decode("utf-8", "replace"),)

    def read_output(self, limit: int) -> str | None:
        """Return what all its tasks have printed; None if that is longer than `limit` bytes."""
        with self._jobs.store.read() as reader:
            found = reader.find_job(self._job_id)
        if found is None:
            return None
        output = b""
        for piece in read_job_log(self._jobs, found):
            output += piece
            if len(output) > limit:
                return None
        return output.decode("utf-8", "replace")

    def list_artefacts(self) -> list[JobArtefact]:
        """Return the job's artefacts, by path; say what is left out, and why if none can be listed."""
        self._jobs.show_files(self._job_id)
        try:
            found = self._jobs.volume.find_artefacts(self._job_id, limit=sys.maxsize)
        except Conflict as error:
            # Its tasks have done that; the job has ended as it has.
            print_message(str(error))
            return []
        tell_left_out(found.left_out)
        return [render.fill_shape(JobArtefact, one) for one in found.files]
