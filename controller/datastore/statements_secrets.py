"""Statements about secrets of single tasks: which were erased with an earlier seal, and what is given anew."""

from __future__ import annotations

from sqlalchemy import and_, select, update
from sqlalchemy import bindparam as _p

from controller.core.states import State
from controller.datastore.prepared import Among, Prepared
from controller.datastore.sql import ONE, ZERO, is_in
from controller.datastore.tables import stages, tasks

_lost = select(
    tasks.c.key, tasks.c.task_id, stages.c.number, tasks.c.idx, tasks.c.task_class, tasks.c.state, tasks.c.input
).join_from(tasks, stages, stages.c.key == tasks.c.stage)
#: Sealed with another seal than the present one.
_lacking = and_(tasks.c.key >= _p("first_key"), tasks.c.key < _p("end_key"), tasks.c.seal_number != _p("present"))
LOST_SECRETS = Prepared(
    _lost.where(_lacking, is_in(tasks.c.state, State.PENDING, State.QUEUED))
    .order_by(tasks.c.key)
    .limit(_p("count"))
    .offset(ZERO),
    "first_key end_key present count",
)
LOST_AMONG = Prepared(
    _lost.where(Among(tasks.c.task_id, _p("task_ids")), _lacking).order_by(tasks.c.key).limit(_p("count")).offset(ZERO),
    "task_ids first_key end_key present count",
)
GIVE_SECRETS = Prepared(
    update(tasks)
    .where(tasks.c.key == _p("at_key"), is_in(tasks.c.state, State.PENDING, State.QUEUED))
    .values(input=_p("input"), seal_number=_p("seal_number"), etag=tasks.c.etag + ONE),
    "input seal_number at_key",
)
