"""A write transaction: the parts put together."""

from __future__ import annotations

from controller.datastore.writes_claims import ClaimWrites
from controller.datastore.writes_files import FileWrites
from controller.datastore.writes_jobs import JobWrites
from controller.datastore.writes_tasks import TaskWrites
from controller.datastore.writes_verbs import VerbWrites


class SqlTransaction(JobWrites, TaskWrites, ClaimWrites, VerbWrites, FileWrites):
    """One write transaction on an SQL database."""
