"""A consistent snapshot: the parts put together."""

from __future__ import annotations

from echelon.controller.datastore.counts import CountReads
from echelon.controller.datastore.failures import FailureReads
from echelon.controller.datastore.files import FileReads
from echelon.controller.datastore.job_views import JobReads
from echelon.controller.datastore.removals import RemovalReads
from echelon.controller.datastore.task_views import TaskReads
from echelon.controller.datastore.workers import WorkerReads


class Reader(JobReads, RemovalReads, TaskReads, FailureReads, FileReads, WorkerReads, CountReads):
    """Reads of one snapshot, without locks. Masked inputs only: no secret ever comes out here."""
