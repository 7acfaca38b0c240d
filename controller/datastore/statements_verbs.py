"""Statements of what a person's verbs do to the tasks of a stage, in ranges of keys; as many rows as it takes, at once.

In `tasks.by_whom` stands who has paused (an open task), cancelled or skipped it; NULL: nobody. `only` narrows a
statement to one state; NULL does not.
"""

from __future__ import annotations

from sqlalchemy import and_, case, func, not_, null, or_, select, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.states import State
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.sql import AT_ONCE, ONE, ZERO, is_in, word
from echelon.controller.datastore.statements_tasks import HELD_COLUMNS, begun_too_late, waits_anew
from echelon.controller.datastore.tables import attempts, stages, tasks

_chosen = and_(
    tasks.c.key >= _p("first_key"),
    tasks.c.key < _p("end_key"),
    tasks.c.state == func.coalesce(_p("only"), tasks.c.state),
)
_next_etag = tasks.c.etag + ONE

#: An item that did not fit: it has an error although it never ran, and it is not for want of an erased secret.
_misfit = and_(tasks.c.attempt == ZERO, tasks.c.error.is_not(None), tasks.c.seal_number.is_(None))
_hand = case((tasks.c.by_whom.is_not(None), ONE), else_=ZERO)
#: Whether a lease is over is judged when tasks become due, nowhere else: the clock may have been set just now.
_waits = case((or_(tasks.c.not_before > _p("now"), tasks.c.lease_until.is_not(None)), ONE), else_=ZERO)
CENSUS = Prepared(
    select(
        tasks.c.state,
        _hand.label("hand"),
        _waits.label("waits"),
        case((_misfit, ONE), else_=ZERO).label("misfit"),
        func.count(),
    )
    .where(_chosen)
    .group_by(tasks.c.state, "hand", "waits", "misfit"),
    "now first_key end_key only",
)
RUNNING_AMONG = Prepared(
    select(*HELD_COLUMNS)
    .join_from(tasks, stages, stages.c.key == tasks.c.stage)
    .where(is_in(tasks.c.state, State.RUNNING), tasks.c.key >= _p("first_key"), tasks.c.key < _p("end_key"))
    .order_by(tasks.c.key),
    "first_key end_key",
)

HOLD = Prepared(
    update(tasks)
    .where(_chosen, is_in(tasks.c.state, State.PENDING, State.QUEUED, State.RUNNING), tasks.c.by_whom.is_(None))
    .values(
        # What is paused is never QUEUED: nothing has to be asked when tasks are claimed.
        state=case((is_in(tasks.c.state, State.QUEUED), word(State.PENDING)), else_=tasks.c.state),
        by_whom=_p("by_whom"),
        paused_at=_p("paused_at"),
        etag=_next_etag,
    ),
    "by_whom paused_at first_key end_key only",
)
_goes_on = and_(is_in(tasks.c.state, State.PENDING), _p("begun") == ONE)
LET_ON = Prepared(
    update(tasks)
    .where(_chosen, is_in(tasks.c.state, State.PENDING, State.RUNNING), tasks.c.by_whom.is_not(None))
    .values(
        state=case(
            (
                and_(
                    _goes_on,
                    or_(tasks.c.not_before.is_(None), tasks.c.not_before <= _p("at")),
                    tasks.c.lease_until.is_(None),
                ),
                word(State.QUEUED),
            ),
            else_=tasks.c.state,
        ),
        # What has to wait becomes due some time: in a stage that has begun nothing else makes it claimable.
        not_before=case(
            (begun_too_late("now"), waits_anew("since")),
            (
                and_(_p("begun_too") == ONE, tasks.c.not_before.is_(None), tasks.c.lease_until.is_not(None)),
                AT_ONCE,
            ),
            else_=tasks.c.not_before,
        ),
        by_whom=null(),
        paused_at=null(),
        etag=_next_etag,
    ),
    "begun at now now_too since begun_too first_key end_key only",
)

_left = {
    "state": _p("state"),
    "by_whom": _p("by_whom"),
    "paused_at": null(),
    "not_before": null(),
    "ended_at": _p("ended_at"),
    "etag": _next_etag,
}
_LEFT = "state ended_at by_whom first_key end_key only"
LEAVE_WAITING = Prepared(
    update(tasks).where(_chosen, is_in(tasks.c.state, State.PENDING, State.QUEUED)).values(_left), _LEFT
)
LEAVE_UNDONE = Prepared(
    update(tasks)
    .where(_chosen, is_in(tasks.c.state, State.PENDING, State.QUEUED, State.FAILED, State.CANCELLED))
    .values(_left),
    _LEFT,
)
#: Keeps the lease: until it is over, or the worker has told of the end, the attempt's processes may be there.
LEAVE_RUNNING = Prepared(
    update(tasks)
    .where(_chosen, is_in(tasks.c.state, State.RUNNING))
    .values(_left)
    .returning(tasks.c.key, tasks.c.task_id, tasks.c.attempt, tasks.c.worker, tasks.c.started_at),
    _LEFT,
)

_again = {
    "state": _p("state"),
    "failures": ZERO,
    "losses": ZERO,
    "exit_code": null(),
    "signal": null(),
    "error": null(),
    "result": null(),
    "by_whom": null(),
    "paused_at": null(),
    "not_before": null(),
    "ended_at": null(),
    "etag": _next_etag,
}
_ranged = and_(tasks.c.key >= _p("first_key"), tasks.c.key < _p("end_key"))
REOPEN = Prepared(
    update(tasks).where(_ranged, tasks.c.state == _p("at_state"), not_(_misfit)).values(_again),
    "state first_key end_key at_state",
)
RESTORE = Prepared(
    update(tasks).where(_ranged, is_in(tasks.c.state, State.CANCELLED), tasks.c.by_whom.is_(None)).values(_again),
    "state first_key end_key",
)
#: What was the only attempt of a completed task is looked up by its task from now on.
KEEP_ATTEMPTS = Prepared(
    update(attempts)
    .where(
        attempts.c.job == _p("job"),
        attempts.c.kept == ZERO,
        attempts.c.task >= _p("first_key"),
        attempts.c.task < _p("end_key"),
    )
    .values(kept=ONE),
    "job first_key end_key",
)

#: Claimable while the processes of the attempt before may still be there: to wait for their end.
PUT_OFF = Prepared(
    update(tasks)
    .where(_ranged, is_in(tasks.c.state, State.QUEUED), tasks.c.lease_until.is_not(None))
    .values(state=word(State.PENDING), not_before=AT_ONCE, etag=_next_etag)
    .returning(tasks.c.idx),
    "first_key end_key",
)
#: The worker has told the end of an attempt that had lost its claim.
LET_GO = Prepared(
    update(tasks)
    .where(
        tasks.c.key == _p("at_key"),
        tasks.c.attempt == _p("at_attempt"),
        tasks.c.worker == _p("at_worker"),
        is_in(tasks.c.state, *(state for state in State if state is not State.RUNNING)),
        tasks.c.lease_until.is_not(None),
    )
    .values(lease_until=null(), etag=_next_etag),
    "at_key at_attempt at_worker",
)

STAGE_ETAG = Prepared(select(stages.c.etag).where(stages.c.key == _p("at_key")), "at_key")
