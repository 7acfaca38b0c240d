"""Finds changes that no message reports: leases that ran out, retries that are due, workers that are long gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from echelon.controller.core.events import SpawnTaskMoved, TasksMoved
from echelon.controller.core.states import State
from echelon.controller.datastore.claims import Chores
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import TaskRow
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.settle import Ending, Settler
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.liveness.expired import judge_expired
from echelon.controller.liveness.store_clock import StoreClockCheck
from echelon.shared.ablation import ablated
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import JobId
from echelon.shared.lease import HEARD_LATELY_PART, RETURN_TIME, WORKER_FORGOTTEN_AFTER
from echelon.shared.messages import AttemptRef

#: Tasks of one transaction.
_BATCH = 1_000
#: Seconds between two looks for such workers.
_PRUNED_EVERY = 60.0


class Watchdog:
    """Sweeps the store. Every sweep is safe to do twice, by several controllers at once."""

    def __init__(
        self, *, store: Datastore, settler: Settler, counters: Counters, store_clock: StoreClockCheck, lease: float
    ) -> None:
        self._store = store
        self._store_clock = store_clock
        self._lease = lease
        self._settler = settler
        self._counters = counters
        #: The store's time of the last look for workers that are long gone.
        self._pruned_at = 0.0

    def find_chores(self) -> Chores:
        """Tell what there is to do. An idle engine does no more than this."""
        with self._store.write() as tx:
            chores = tx.find_chores()
            now = tx.now()
            longest = self._store_clock.longest_lease(now)
            if longest is not None:
                tx.shorten_leases(longest=longest)
            prune = now - self._pruned_at >= _PRUNED_EVERY
            if prune:
                tx.prune_workers(older_than=WORKER_FORGOTTEN_AFTER)
        self._store_clock.confirm_shortened()
        if prune:
            self._pruned_at = now
        return chores

    def do_chores(self, chores: Chores, *, heard_for: Callable[[], float | None]) -> tuple[set[JobId], float | None]:
        """Do what there is to do; return the jobs that ended, and seconds until a retry that this made is due.

        `heard_for` is `Hearing.heard_for`. While that is None no lease expires, nor do those of attempts that have lost
        their claim: a worker that could not be reached has not been told.
        """
        # Asked in every sweep: it notes since when workers can be heard.
        expire = heard_for() is not None and self._store_clock.is_trusted
        overdue = expire and chores.expired and not ablated("lease_watchdog")
        ended, wait = self._expire_leases(heard_for) if overdue else (set(), None)
        if chores.due and not ablated("retry_watchdog"):
            ended |= self._release_due(expire=expire or ablated("last_lease_patience"))
        return ended, wait

    def _expire_leases(self, heard_for: Callable[[], float | None]) -> tuple[set[JobId], float | None]:
        with self._store.write() as tx:
            found = tx.find_expired(limit=_BATCH)
            if not found:
                return set(), None
            unit = UnitOfWork(tx)
            unit.lock_jobs([job_id for job_id, _ in found])
            # The wait for the locks may have been long, and no worker could renew meanwhile.
            heard = heard_for()
            late = set(tx.find_expired(limit=_BATCH)) if heard is not None else set()
            held = tx.load_tasks([task_id for _, task_id in found])
            lost = [task for task in held if (task.job_id, task.task_id) in late and task.state is State.RUNNING]
            lost = self._select_heard(tx, lost, heard or 0.0)
            due = self._settler.settle_attempts(unit, self._judge_expired(tx, lost)) if lost else None
            unit.save_jobs()
            if lost:
                failpoint("expire.before_commit")
            wait = None if due is None else due - tx.now()
        if lost:
            failpoint("expire.after_commit")
        self._counters.lost.inc(len(lost))
        return unit.ended, wait

    def _select_heard(self, tx: Transaction, late: Sequence[TaskRow], heard_for: float) -> list[TaskRow]:
        """Return the tasks of workers heard since the last outage; others may still be on their way back."""
        if not late or heard_for >= self._lease + RETURN_TIME:
            return list(late)
        heard = tx.find_heard({task.worker for task in late if task.worker}, within=heard_for)
        return [task for task in late if task.worker in heard]

    def _judge_expired(self, tx: Transaction, late: Sequence[TaskRow]) -> list[Ending]:
        heard = tx.find_heard({task.worker for task in late if task.worker}, within=HEARD_LATELY_PART * self._lease)
        starts = self._settler.read_starts(task for task in late if task.worker in heard)
        return [Ending(task, judge_expired(task, starts.get(task.worker)), doubtful=True) for task in late]

    def _count_late_starts(self, tx: Transaction, released: Sequence[TaskRow]) -> None:
        """Count attempts that lost their claim before their start was told, and whose worker never told of the end."""
        silent = [task for task in released if task.lease_until is not None and task.started_at is None]
        if not silent:
            return
        starts = self._settler.read_starts(silent)
        begun = [(task, starts.get(task.worker, {}).get(AttemptRef(task.task_id, task.attempt))) for task in silent]
        tx.count_late_starts([(task, at) for task, at in begun if at is not None])

    def _release_due(self, *, expire: bool) -> set[JobId]:
        with self._store.write() as tx:
            found = tx.find_due(limit=_BATCH, expire=expire)
            if not found:
                return set()
            unit = UnitOfWork(tx)
            unit.lock_jobs([job_id for job_id, _ in found])
            released = tx.release_due([task_id for _, task_id in found], expire=expire)
            self._count_late_starts(tx, released)
            for task in released:
                if task.spawn:
                    unit.apply_event(task.job_id, SpawnTaskMoved(task.stage, State.QUEUED))
            counts = Counter((task.job_id, task.stage) for task in released if not task.spawn)
            for (job_id, stage), count in counts.items():
                unit.apply_event(job_id, TasksMoved(stage, {(State.PENDING, State.QUEUED): count}))
            unit.save_jobs()
            failpoint("due.before_commit")
        failpoint("due.after_commit")
        return unit.ended
