"""Statements about secrets of single tasks: which were erased with an earlier seal, and what is given anew."""

from __future__ import annotations

from sqlalchemy import and_, select, true, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.states import State
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.sql import ONE, ZERO, is_in
from echelon.controller.datastore.tables import stages, tasks

_lost = select(
    tasks.c.key, tasks.c.task_id, stages.c.number, tasks.c.idx, tasks.c.task_class, tasks.c.state, tasks.c.input
).join_from(stages, tasks, tasks.c.stage == stages.c.key)
_of_job = and_(stages.c.key >= _p("first_key"), stages.c.key < _p("end_key"))
#: Sealed with an earlier seal than the present one: numbers of seals only grow.
_lacking = tasks.c.seal_number < _p("present")
_to_run = is_in(tasks.c.state, State.PENDING, State.QUEUED)

_stages = select(stages.c.key, stages.c.number).where(_of_job).subquery("of_job")
_next = (
    select(tasks.c.key, tasks.c.task_id, tasks.c.idx, tasks.c.task_class, tasks.c.state, tasks.c.input)
    .where(tasks.c.stage == _stages.c.key, _lacking, _to_run)
    .order_by(tasks.c.seal_number, tasks.c.idx)
    .limit(_p("count"))
    .offset(ZERO)
    .lateral("lost")
)
# Stage by stage from the index `tasks_sealed`: what has lost nothing is not looked at. PostgreSQL's planner believes
# that many have lost something, and would walk through all tasks there are until it has found a few; so it is asked for
# them in the order of the index, which yields up to `count` of each stage.
LOST_SECRETS = Prepared(
    _lost.where(_of_job, _lacking, _to_run).order_by(stages.c.key).limit(_p("count")).offset(ZERO),
    "first_key end_key present count",
    postgresql=select(
        _next.c.key, _next.c.task_id, _stages.c.number, _next.c.idx, _next.c.task_class, _next.c.state, _next.c.input
    ).join_from(_stages, _next, true()),
)
LOST_AMONG = Prepared(
    _lost.where(Among(tasks.c.task_id, _p("task_ids")), _of_job, _lacking).limit(_p("count")).offset(ZERO),
    "task_ids first_key end_key present count",
)
GIVE_SECRETS = Prepared(
    update(tasks)
    .where(tasks.c.key == _p("at_key"), _to_run)
    .values(input=_p("input"), seal_number=_p("seal_number"), etag=tasks.c.etag + ONE),
    "input seal_number at_key",
)
