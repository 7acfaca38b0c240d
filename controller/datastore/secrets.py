"""The values of jobs, their sealed secrets, and secrets of single tasks that were erased with an earlier seal."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import and_, null, or_, select, true, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.states import State
from echelon.controller.datastore.base import TransactionBase
from echelon.controller.datastore.cache import Entry, KeptInput, keep_if_short
from echelon.controller.datastore.encoding import clean_text, decode_names, decode_object, encode_json
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.records import JobInputs, LostSecret
from echelon.controller.datastore.sql import ONE, ZERO, is_in
from echelon.controller.datastore.tables import job_inputs, jobs, stages, tasks
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue

ERASE_SECRETS = Prepared(
    update(job_inputs)
    .where(job_inputs.c.key == _p("at_key"), or_(job_inputs.c.sealed.is_not(None), job_inputs.c.seal.is_not(None)))
    .values(sealed=null(), seal=null(), seal_number=job_inputs.c.seal_number + ONE),
    "at_key",
)
READ_SECRET_NAMES = Prepared(
    select(job_inputs.c.secret, jobs.c.type)
    .join_from(job_inputs, jobs, jobs.c.key == job_inputs.c.key)
    .where(job_inputs.c.key == _p("at_key")),
    "at_key",
)
READ_INPUT = Prepared(
    select(job_inputs.c.input, job_inputs.c.sealed, job_inputs.c.seal, job_inputs.c.seal_number).where(
        job_inputs.c.key == _p("at_key")
    ),
    "at_key",
)
REPLACE_INPUT = Prepared(
    update(job_inputs)
    .where(job_inputs.c.key == _p("at_key"))
    .values(
        input=_p("input"),
        secret=_p("secret"),
        sealed=_p("sealed"),
        seal=_p("seal"),
        seal_number=job_inputs.c.seal_number + ONE,
        words=_p("words"),
    ),
    "input secret sealed seal words at_key",
)

_of_job = and_(stages.c.key >= _p("first_key"), stages.c.key < _p("end_key"))
#: To run, and sealed with an earlier seal than the present one: numbers of seals only grow.
_lost = and_(tasks.c.seal_number < _p("present"), is_in(tasks.c.state, State.PENDING, State.QUEUED))

_stages = select(stages.c.key, stages.c.number).where(_of_job).subquery("of_job")
_next = (
    select(tasks.c.idx, tasks.c.task_class, tasks.c.input)
    .where(tasks.c.stage == _stages.c.key, _lost)
    .order_by(tasks.c.seal_number, tasks.c.idx)
    .limit(ONE)
    .offset(ZERO)
    .lateral("lost")
)
# From the index `tasks_sealed`: tasks that have lost nothing are not looked at. PostgreSQL's planner believes that many
# have lost something, and would walk through all tasks until it has found one; so it is asked for the first of each
# stage in the order of the index.
LOST_SECRET = Prepared(
    select(stages.c.number, tasks.c.idx, tasks.c.task_class, tasks.c.input)
    .join_from(stages, tasks, tasks.c.stage == stages.c.key)
    .where(_of_job, _lost)
    .order_by(stages.c.key)
    .limit(_p("count"))
    .offset(ZERO),
    "first_key end_key present count",
    postgresql=select(_stages.c.number, _next.c.idx, _next.c.task_class, _next.c.input)
    .join_from(_stages, _next, true())
    .order_by(_stages.c.key)
    .limit(_p("count"))
    .offset(ZERO),
)


class SecretWrites(TransactionBase):
    """The methods of a transaction about the values of jobs and their secrets."""

    def replace_input(
        self, job_id: JobId, values: Mapping[str, JsonValue], sealed: Mapping[str, str], seal: str | None = None
    ) -> None:
        """Replace the secrets, the masked input and the seal of a reopened job."""
        entry = self._locked_entry(job_id)
        key = entry.key
        # A copy: other transactions keep their view of the job until this one is committed.
        self._keep_entry(Entry(key, entry.etag, entry.job))
        ((names, job_type),) = self._session.fetch_rows(READ_SECRET_NAMES, (key,))
        secret = sorted({*decode_names(names), *sealed})
        words = words_of(job_id, job_type, values)
        self._session.send_rows(
            REPLACE_INPUT, (encode_json(values), encode_json(secret), encode_json(sealed), seal, words, key)
        )

    def load_inputs(self, job_id: JobId) -> JobInputs:
        """Return the values of a locked job."""
        entry = self._locked_entry(job_id)
        known = entry.input
        if known is None:
            (row,) = self._session.fetch_rows(READ_INPUT, (entry.key,))
            known = KeptInput(*row)
            entry.input = keep_if_short(known)
        sealed = {name: str(value) for name, value in decode_object(known.sealed).items()}
        return JobInputs(decode_object(known.values), sealed, known.seal, known.seal_number)

    def find_lost_secret(self, job_id: JobId) -> LostSecret | None:
        """Return an open task of a locked job whose own secrets were erased with an earlier seal."""
        entry = self._locked_entry(job_id)
        bounds = (entry.key, entry.key + len(entry.job.stages), self.load_inputs(job_id).seal_number, 1)
        for stage, index, task_class, values in self._session.fetch_rows(LOST_SECRET, bounds):
            return LostSecret(stage, index, task_class, decode_object(values))
        return None


def words_of(job_id: str, job_type: str, values: Mapping[str, JsonValue]) -> str:
    """Return the text that a search for jobs examines."""
    texts = [value if isinstance(value, str) else encode_json(value) for value in values.values()]
    return clean_text("\n".join((job_id, job_type, *texts)).casefold()) or ""
