"""A write transaction: the parts put together.

Rules that hold for every method:

* Whoever changes a task's state or a stage's counters holds the lock of its job (`lock_jobs`) in the same transaction.
* A task row changes only by a statement that names the states it may leave, and the attempt where there is one.
* Lists that are handed in are bounded by the caller; only what people do to stages, `release` and `delete_job` touch
  grows with a stage.
"""

from __future__ import annotations

from echelon.controller.datastore.claims import ClaimWrites
from echelon.controller.datastore.fanout import FanOutWrites
from echelon.controller.datastore.files import FileWrites
from echelon.controller.datastore.jobs import JobWrites
from echelon.controller.datastore.secrets import SecretWrites
from echelon.controller.datastore.verbs import VerbWrites


class Transaction(JobWrites, SecretWrites, ClaimWrites, VerbWrites, FanOutWrites, FileWrites):
    """One write transaction. What it returns is true until it ends."""
