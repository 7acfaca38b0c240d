"""A write transaction: the parts put together.

Rules that hold for every method:

* To change a task's state or a stage's counters, lock its job (`lock_jobs`) in the same transaction.
* A task row changes only by a statement that names the states it may leave, and the attempt where there is one.
* Callers bound the lists they pass; only people's verbs on stages and `release_tasks` grow with a stage.
"""

from __future__ import annotations

from echelon.controller.datastore.claims import ClaimWrites
from echelon.controller.datastore.fanout import FanOutWrites
from echelon.controller.datastore.files import FileWrites
from echelon.controller.datastore.jobs import JobWrites
from echelon.controller.datastore.removals import RemovalWrites
from echelon.controller.datastore.secrets import SecretWrites
from echelon.controller.datastore.starts import StartWrites


class Transaction(JobWrites, RemovalWrites, SecretWrites, ClaimWrites, StartWrites, FanOutWrites, FileWrites):
    """One write transaction. Its answers hold until it ends."""
