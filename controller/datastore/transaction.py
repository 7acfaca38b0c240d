"""A write transaction: the parts put together."""

from __future__ import annotations

from echelon.controller.datastore.writes_claims import ClaimWrites
from echelon.controller.datastore.writes_files import FileWrites
from echelon.controller.datastore.writes_secrets import SecretWrites
from echelon.controller.datastore.writes_tasks import TaskWrites
from echelon.controller.datastore.writes_verbs import VerbWrites


class SqlTransaction(SecretWrites, TaskWrites, ClaimWrites, VerbWrites, FileWrites):
    """One write transaction on an SQL database."""
