"""A write transaction: the parts put together."""

from __future__ import annotations

from controller.datastore.writes_claims import ClaimWrites
from controller.datastore.writes_files import FileWrites
from controller.datastore.writes_secrets import SecretWrites
from controller.datastore.writes_tasks import TaskWrites
from controller.datastore.writes_verbs import VerbWrites


class SqlTransaction(SecretWrites, TaskWrites, ClaimWrites, VerbWrites, FileWrites):
    """One write transaction on an SQL database."""
