"""People's verbs on the tasks of a stage: one statement per range of keys, for any number of rows.

`tasks.by_whom` names the person who has paused (an open task), cancelled or skipped a task. `only` limits a statement
to one state, unless it is NULL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from sqlalchemy import and_, case, func, not_, null, or_, select, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.events import Spans
from echelon.controller.core.states import ENDED, OPEN, TASK_TRANSITIONS, State
from echelon.controller.datastore.claims import begun_too_late
from echelon.controller.datastore.encoding import STATES, clean_text
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.records import SPAWN_ONLY, TaskCount, TaskRow
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.sql import (
    AT_ONCE,
    GIVEN,
    IN_RANGE,
    ONE,
    PRESENT,
    RUNNING,
    SHOWN_STATE,
    STARTED,
    ZERO,
    guard_becoming,
    guard_leaving,
    is_in,
    state_literal,
)
from echelon.controller.datastore.tables import attempts, stages, task_key, tasks
from echelon.controller.datastore.tasks import CLEAR_LEASE, INSERT_ATTEMPT, LAST_ATTEMPT, TASK_ROW_COLUMNS, TaskWrites
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import AttemptRef, Outcome

_chosen = and_(
    IN_RANGE,
    func.coalesce(_p("only"), SHOWN_STATE) == SHOWN_STATE,
)
_next_etag = tasks.c.etag + ONE

#: An item that did not fit: an error without an attempt, and not for lack of an erased secret.
_misfit = and_(tasks.c.attempt == ZERO, tasks.c.error.is_not(None), tasks.c.seal_number.is_(None))
_hand = case((tasks.c.by_whom.is_not(None), ONE), else_=ZERO)
#: Only when tasks become due is a lease judged to be over: the clock may just have been set.
_waits = case((or_(tasks.c.not_before > _p("now"), tasks.c.lease_until.is_not(None)), ONE), else_=ZERO)
COUNT_TASKS = Prepared(
    select(
        tasks.c.state,
        _hand.label("hand"),
        _waits.label("waits"),
        case((_misfit, ONE), else_=ZERO).label("misfit"),
        case((STARTED, ONE), else_=ZERO).label("has_started"),
        func.count(),
    )
    .where(_chosen, PRESENT)
    .group_by(tasks.c.state, "hand", "waits", "misfit", "has_started"),
    "now first_key end_key only",
)
STARTED_AMONG = Prepared(
    select(*TASK_ROW_COLUMNS)
    .join_from(tasks, stages, stages.c.key == tasks.c.stage)
    .where(STARTED, IN_RANGE)
    .order_by(tasks.c.key),
    "first_key end_key",
)
GIVEN_AMONG = Prepared(
    select(tasks.c.worker, tasks.c.task_id, tasks.c.attempt).where(GIVEN, IN_RANGE).order_by(tasks.c.key),
    "first_key end_key",
)

PAUSE_TASKS = Prepared(
    update(tasks)
    .where(_chosen, is_in(tasks.c.state, *sorted(OPEN)), tasks.c.by_whom.is_(None))
    .values(
        # A paused task is never QUEUED, so that claims need no further condition.
        state=case((guard_leaving(State.QUEUED, to=State.PENDING), state_literal(State.PENDING)), else_=tasks.c.state),
        by_whom=_p("by_whom"),
        paused_at=_p("paused_at"),
        etag=_next_etag,
    ),
    "by_whom paused_at first_key end_key only",
)
_goes_on = and_(guard_leaving(State.PENDING, to=State.QUEUED), _p("begun") == ONE)
RESUME_TASKS = Prepared(
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
                state_literal(State.QUEUED),
            ),
            else_=tasks.c.state,
        ),
        # In a stage that has begun, a waiting task becomes claimable only when it is due: give it a time.
        not_before=case(
            (begun_too_late("now"), _p("since")),
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
END_WAITING = Prepared(
    update(tasks).where(_chosen, guard_becoming(State.CANCELLED, but=State.RUNNING)).values(_left), _LEFT
)
END_UNDONE = Prepared(
    update(tasks).where(_chosen, PRESENT, guard_becoming(State.SKIPPED, but=State.RUNNING)).values(_left), _LEFT
)
#: Keeps the lease: until it is over or the worker reports the end, the attempt's processes may exist.
END_RUNNING = Prepared(
    update(tasks)
    .where(_chosen, RUNNING)
    .values(_left | {"unstarted": case((GIVEN, tasks.c.unstarted + ONE), else_=tasks.c.unstarted)})
    .returning(tasks.c.key, tasks.c.task_id, tasks.c.attempt, tasks.c.worker, tasks.c.started_at, tasks.c.unstarted),
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
REOPEN = Prepared(
    update(tasks).where(IN_RANGE, PRESENT, tasks.c.state == _p("at_state"), not_(_misfit)).values(_again),
    "state first_key end_key at_state",
)
LEAVE_BEHIND = Prepared(
    update(tasks).where(IN_RANGE, tasks.c.run.is_(None)).values(run=_p("run"), etag=_next_etag),
    "run first_key end_key",
)
SET_RUN = Prepared(
    update(stages).where(stages.c.key == _p("at_key")).values(run=_p("run"), shift=_p("shift")), "run shift at_key"
)
RESTORE = Prepared(
    update(tasks)
    .where(IN_RANGE, PRESENT, guard_leaving(State.CANCELLED, to=State.QUEUED), tasks.c.by_whom.is_(None))
    .values(_again),
    "state first_key end_key",
)
#: From now on the only attempt of a completed task is looked up by its task.
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


class VerbWrites(TaskWrites):
    """The methods of a transaction about what people do to tasks. `spans` None: all but the spawn task."""

    def count_tasks(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None
    ) -> list[TaskCount]:
        """Count the tasks of a stage by what a verb does to them."""
        found: Counter[tuple[str, int, int, int, int]] = Counter()
        now = self.now()
        for keys in self._key_ranges(job_id, stage, spans):
            for *kind, count in self._session.fetch_rows(COUNT_TASKS, (now, *keys, only)):
                found[tuple(kind)] += count
        return [
            TaskCount(STATES[state], bool(hand), bool(waits), count, bool(misfit), bool(started))
            for (state, hand, waits, misfit, started), count in found.items()
        ]

    def load_started(self, job_id: JobId, stage: int, *, spans: Spans | None = None) -> list[TaskRow]:
        """Return the tasks of a stage that have started and run."""
        ranges = self._key_ranges(job_id, stage, spans)
        return self._task_rows([row for keys in ranges for row in self._session.fetch_rows(STARTED_AMONG, keys)])

    def list_given(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, everything: bool = False
    ) -> list[tuple[WorkerId, AttemptRef]]:
        """Return what workers hold of a stage and have not started; with `everything` its spawn task too."""
        ranges = [self._task_keys(job_id, stage)] if everything else self._key_ranges(job_id, stage, spans)
        rows = [row for keys in ranges for row in self._session.fetch_rows(GIVEN_AMONG, keys)]
        names = self._names_of_workers({worker for worker, _, _ in rows})
        return [(names[worker], AttemptRef(TaskId(task_id), attempt)) for worker, task_id, attempt in rows]

    def pause_tasks(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None, by: str
    ) -> None:
        """Pause open tasks of a stage that are not paused; QUEUED ones become PENDING."""
        now = self.now()
        rows = [(clean_text(by), now, *keys, only) for keys in self._key_ranges(job_id, stage, spans)]
        self._session.send_rows(PAUSE_TASKS, *rows)

    def resume_tasks(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None, begun: bool
    ) -> None:
        """End the pause of tasks of a stage; if the stage has begun, those that wait for no time become QUEUED."""
        now = self.now()
        values = (int(begun), now, now, now, now, int(begun))
        self._session.send_rows(
            RESUME_TASKS, *[(*values, *keys, only) for keys in self._key_ranges(job_id, stage, spans)]
        )

    def end_tasks(
        self,
        job_id: JobId,
        stage: int,
        state: State,
        *,
        by: str,
        spans: Spans | None = None,
        only: State | None = None,
    ) -> list[tuple[WorkerId, AttemptRef]]:
        """Make tasks of a stage CANCELLED (open ones) or SKIPPED (all but completed ones) for a person.

        Return what workers held, started or not.
        """
        told = []
        for keys in self._key_ranges(job_id, stage, spans):
            told += self._end_tasks(job_id, keys, state, by=by, only=only, running=True)
        return told

    def withdraw_tasks(
        self, job_id: JobId, stage: int, *, running: bool, by: str | None = None
    ) -> list[tuple[WorkerId, AttemptRef]]:
        """Cancel tasks of a stage that have not started, the spawn task included; with `running` those that run too.

        `by` is the person who asks, if any. Return the attempts that ran, with their workers.
        """
        return self._end_tasks(job_id, self._task_keys(job_id, stage), State.CANCELLED, by=by, running=running)

    def skip_tasks(self, job_id: JobId, stage: int, *, by: str) -> list[tuple[WorkerId, AttemptRef]]:
        """Make all tasks of a stage SKIPPED except completed ones; return the attempts that ran."""
        return self._end_tasks(job_id, self._task_keys(job_id, stage), State.SKIPPED, by=by, running=True)

    def reopen_tasks(
        self,
        job_id: JobId,
        stage: int,
        *,
        target: State,
        sources: Collection[State],
        spawn: bool = False,
        spans: Spans | None = None,
    ) -> None:
        """Set ended tasks of a stage to `target` with full retries; with `spawn` the spawn task too.

        Tasks whose items did not fit stay as they are: they have no values to run with.
        """
        if any(target not in TASK_TRANSITIONS[source] for source in sources):
            raise GuardFailed(f"tasks cannot go from {sorted(sources)} to {target} (a bug of Echelon)")
        ranges = self._key_ranges(job_id, stage, spans)
        if State.COMPLETED in sources:
            job = self._locked_entry(job_id).key
            self._session.send_rows(KEEP_ATTEMPTS, *[(job, *keys) for keys in ranges])
        rows = [(target.value, *keys, source.value) for source in sorted(sources) for keys in ranges]
        if spawn:
            ended = sorted(ENDED - {State.COMPLETED})
            (spawn_keys,) = self._key_ranges(job_id, stage, SPAWN_ONLY)
            rows += [(target.value, *spawn_keys, source.value) for source in ended]
        self._session.send_rows(REOPEN, *rows)

    def begin_run(self, job_id: JobId, stage: int, *, target: State, run: int, shift: int) -> None:
        """End a run of a stage, none of whose attempts runs: the tasks of its list leave it, the others run again."""
        self.withdraw_tasks(job_id, stage, running=False, by="the next run")
        spawn_keys, keys = self._key_ranges(job_id, stage, SPAWN_ONLY)[0], self._key_ranges(job_id, stage, None)[0]
        self._session.send_rows(LEAVE_BEHIND, (run, *keys))
        self._session.send_rows(KEEP_ATTEMPTS, (self._locked_entry(job_id).key, spawn_keys[0], keys[1]))
        rows = [(target.value, *found, source.value) for source in sorted(ENDED) for found in (spawn_keys, keys)]
        self._session.send_rows(REOPEN, *rows)
        self._session.send_rows(SET_RUN, (run + 1, shift, self._locked_entry(job_id).key + stage))

    def restore_tasks(self, job_id: JobId, stage: int, *, target: State) -> None:
        """Set CANCELLED tasks of a stage that no person has cancelled to `target`."""
        self._session.send_rows(RESTORE, (target.value, *self._task_keys(job_id, stage)))

    # --- for the parts

    def _key_ranges(self, job_id: JobId, stage: int, spans: Spans | None) -> list[tuple[int, int]]:
        """Return ranges of keys: (first, first after the range)."""
        if spans is None or (spans != SPAWN_ONLY and ablated("span_choice")):
            first, end = self._task_keys(job_id, stage)
            return [(first + 1, end)]
        key = self._locked_entry(job_id).key + stage
        return [(task_key(key, first), task_key(key, last + 1)) for first, last in spans]

    def _end_tasks(
        self,
        job_id: JobId,
        keys: tuple[int, int],
        state: State,
        *,
        by: str | None,
        running: bool,
        only: State | None = None,
    ) -> list[tuple[WorkerId, AttemptRef]]:
        now = self.now()
        parameters = (state.value, now, clean_text(by), *keys, only)
        stopped = self._session.fetch_rows(END_RUNNING, parameters) if running else []
        self._session.send_rows(END_UNDONE if state is State.SKIPPED else END_WAITING, parameters)
        if not stopped:
            return []
        stopped.sort()
        job = self._locked_entry(job_id).key
        ended: list[Row] = [
            (job, key, attempt, unstarted, 1, Outcome.STOPPED.value, worker, None, None, None, started_at, now)
            for key, _, attempt, worker, started_at, unstarted in stopped
            if started_at is not None
        ]
        if ended:
            self._session.send_rows(INSERT_ATTEMPT, *self._number_lines(LAST_ATTEMPT, ended))
        if ablated("cancel_lease"):
            self._session.send_rows(CLEAR_LEASE, *[(key, attempt, worker) for key, _, attempt, worker, *_ in stopped])
        names = self._names_of_workers({row[3] for row in stopped})
        return [(names[worker], AttemptRef(TaskId(task_id), attempt)) for _, task_id, attempt, worker, *_ in stopped]
