"""Secrets of single tasks: finding those that were erased with an earlier seal of their job, and taking them anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from echelon.controller.datastore import statements_secrets as sql
from echelon.controller.datastore.records import LostSecrets
from echelon.controller.datastore.rows import STATES, decode_object, encode
from echelon.controller.datastore.writes_jobs import JobWrites
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import JsonValue


class SecretWrites(JobWrites):
    """The methods of `Transaction` about secrets of single tasks."""

    def lost_secrets(self, job_id: JobId, *, limit: int, among: Collection[TaskId] | None = None) -> list[LostSecrets]:
        """Return tasks of a locked job whose own secrets were erased with an earlier seal of it.

        `among`: only of these, however they stand; else only those that are to run.
        """
        entry = self._entry(job_id)
        parameters = (entry.key, entry.key + len(entry.job.stages), self.inputs(job_id).seal_number, limit)
        if among is None:
            rows = self._session.rows(sql.LOST_SECRETS, parameters)
        else:
            rows = self._session.rows(sql.LOST_AMONG, (self._session.listed(list(among)), *parameters))
        return [
            LostSecrets(key, task_id, stage, index, task_class, STATES[state], decode_object(values))
            for key, task_id, stage, index, task_class, state, values in sorted(rows)[:limit]
        ]

    def give_secrets(self, job_id: JobId, given: Sequence[tuple[int, Mapping[str, JsonValue]]]) -> None:
        """Give tasks (by their keys) of a locked job their values anew, secrets sealed with its present seal."""
        number = self.inputs(job_id).seal_number
        complaint = "a task that is to run was changed without the lock of its job (a bug of Echelon)"
        self._session.post_exactly(
            sql.GIVE_SECRETS, [(encode(values), number, key) for key, values in given], complaint
        )
