"""A job that runs in this very process: what `run` looks at instead of a controller's answers.

Shows it in the words of the REST interface, so that `run` and `watch` are one thing to whoever reads them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, cast

from echelon.controller.api import render
from echelon.controller.client.answers import Artefact, Job, Task
from echelon.controller.core.states import State
from echelon.controller.datastore.records import SPAWN_INDEX, TaskFilter
from echelon.controller.engine.jobs import Jobs
from echelon.shared.errors import Conflict, NotFound
from echelon.shared.ids import JobId

#: Seconds between two looks; a job's end is seen at once.
_LOOK: Final = 0.2
_TAIL: Final = 8192
_PAGE: Final = 1000


class LocalJob:
    """A job of an engine at hand, with the right to end it."""

    def __init__(self, jobs: Jobs, job_id: JobId, *, timeout: float | None = None) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._cancelled = False
        #: Set by whoever wants the job to end.
        self.unwanted = threading.Event()
        #: It took longer than it was given.
        self.late = False

    def look(self) -> Job:
        """Return the job when it has ended, or after a moment; ends it when it is late or unwanted."""
        self._jobs.wait(self._job_id, _LOOK)
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.late = self.late or not self._cancelled
            self.unwanted.set()
        if self.unwanted.is_set() and not self._cancelled:
            self._cancel()
        return self.view()

    def view(self) -> Job:
        """Return the job as it is."""
        with self._jobs.store.read() as reader:
            found = reader.job(self._job_id)
        if found is None:
            raise NotFound(f"job {self._job_id} is gone")
        return cast(Job, render.job(found, self._jobs.masked_input(found)))

    def failed(self) -> Iterator[Task]:
        """Yield some of its tasks that are FAILED now."""
        with self._jobs.store.read() as reader:
            page = reader.tasks(self._job_id, TaskFilter(state=State.FAILED), limit=10, cursor=None)
        for view in page.items:
            yield cast(Task, render.task(view, view.input))

    def stderr(self, task: Task) -> Iterable[str]:
        """Return the end of what a task's last attempt wrote to stderr."""
        index = SPAWN_INDEX if task["index"] is None else task["index"]
        file = self._jobs.volume.open_log(self._job_id, task["stage"], index, task["attempt"], "stderr")
        if file is None:
            return ()
        with file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            return (file.read(_TAIL).decode("utf-8", "replace"),)

    def artefacts(self) -> Iterator[Artefact]:
        """Yield what the job left, by path."""
        self._jobs.show_files(self._job_id)
        after = ""
        while page := self._jobs.volume.list_artefacts(self._job_id, after=after, limit=_PAGE):
            for one in page:
                yield cast(Artefact, render.artefact(one))
            after = page[-1].path

    def _cancel(self) -> None:
        self._cancelled = True
        try:
            self._jobs.cancel(self._job_id)
        except Conflict:
            # It ended by itself in the meantime.
            return
