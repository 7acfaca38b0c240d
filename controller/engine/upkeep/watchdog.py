"""Notice what nobody reports: leases that ran out, retries whose time has come, workers that are long gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from echelon.controller.core.model import SpawnTaskMoved, TasksMoved
from echelon.controller.core.states import State
from echelon.controller.datastore.claims import Chores
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import HeldTask
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.base.board import Board
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.settle import Ending, Settler
from echelon.controller.engine.upkeep.timekeeper import Timekeeper
from echelon.shared.ablation import ablated
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import JobId, WorkerId
from echelon.shared.messages import Finished, Outcome
from echelon.shared.volume.beacons import WAY_BACK

#: Tasks of one transaction.
_BATCH = 1_000
#: Seconds after which a silent worker is forgotten altogether.
_FORGOTTEN_AFTER = 3600.0
#: Seconds between two looks for such workers.
_PRUNED_EVERY = 60.0

#: A worker was heard lately when that is no longer ago than this part of a lease. One that was stopped for so long that
#: a lease ran out was not: its last sign of life is as old as the lease.
_LATELY = 0.5
#: Part of a lease in which an order arrives, or never does: who has taken in one that was made so much later holds all
#: that it will ever hold of the first. Less than the third of a lease that lies between two signs of life: the last one
#: before the lease ends tells of the answer to the one before it, so more would often not be known by then.
_ARRIVED = 0.3


class Watchdog:
    """Sweeps the store. Every sweep is safe to do twice, by several controllers at once."""

    def __init__(
        self, *, store: Datastore, settler: Settler, counters: Counters, timekeeper: Timekeeper, lease: float
    ) -> None:
        self._store = store
        self._timekeeper = timekeeper
        self._lease = lease
        self._settler = settler
        self._counters = counters
        #: The store's time of the last look for workers that are long gone.
        self._pruned_at = 0.0

    def look(self) -> Chores:
        """Tell what there is to do. An idle engine does no more than this."""
        with self._store.write() as tx:
            chores = tx.chores()
            now = tx.now()
            longest = self._timekeeper.look(now)
            if longest is not None:
                tx.shorten_leases(longest=longest)
            prune = now - self._pruned_at >= _PRUNED_EVERY
            if prune:
                tx.prune_workers(older_than=_FORGOTTEN_AFTER)
        self._timekeeper.settle()
        if prune:
            self._pruned_at = now
        return chores

    def turn(self, chores: Chores, *, hearing: Callable[[], float | None]) -> tuple[set[JobId], float | None]:
        """Do what there is to do; return the jobs that ended, and seconds until a retry that this made is due.

        `hearing` tells for how many seconds workers could be heard here; None: not for long enough that a lease which
        has run out by this moment means that its worker is lost. Then leases are left alone, those of attempts that
        have lost their claim as well: a worker that nobody could reach has not heard of it.
        """
        # Asked in every sweep: it counts from when on workers could be heard.
        expire = hearing() is not None and self._timekeeper.trusted
        overdue = expire and chores.expired and not ablated("lease_watchdog")
        ended, wait = self._expire(hearing) if overdue else (set(), None)
        if chores.due and not ablated("retry_watchdog"):
            ended |= self._release_due(expire=expire or ablated("last_lease_patience"))
        return ended, wait

    def _expire(self, hearing: Callable[[], float | None]) -> tuple[set[JobId], float | None]:
        with self._store.write() as tx:
            found = tx.expired(limit=_BATCH)
            if not found:
                return set(), None
            board = Board(tx)
            board.lock([job_id for job_id, _ in found])
            # The wait for the locks may have been long, and nobody could renew meanwhile.
            heard_for = hearing()
            late = set(tx.expired(limit=_BATCH)) if heard_for is not None else set()
            held = tx.held([task_id for _, task_id in found])
            lost = [task for task in held if (task.job_id, task.task_id) in late and task.state is State.RUNNING]
            lost = self._without_unheard(tx, lost, heard_for or 0.0)
            due = self._settler.settle(board, self._endings(tx, lost)) if lost else None
            board.save()
            if lost:
                failpoint("expire.before_commit")
            wait = None if due is None else due - tx.now()
        if lost:
            failpoint("expire.after_commit")
        self._counters.lost.inc(len(lost))
        return board.ended, wait

    def _without_unheard(self, tx: Transaction, late: Sequence[HeldTask], hearing: float) -> list[HeldTask]:
        """Return the tasks whose workers have been heard here: who has not may still be on its way back."""
        if not late or hearing >= self._lease + WAY_BACK:
            return list(late)
        heard = tx.heard({task.worker for task in late if task.worker}, within=hearing)
        return [task for task in late if task.worker in heard]

    def _endings(self, tx: Transaction, late: Sequence[HeldTask]) -> list[Ending]:
        """Judge attempts whose lease ran out: lost with their worker, or never there.

        A sign of life names every attempt that a worker holds. One that was heard lately and did not name an attempt
        has never got its order, or has dropped it: the task has done nobody any harm. But a sign of life may be read
        long after it was given, by a controller that was stopped with it in its hands; so there has to be one that was
        given when the attempt's order had had its time to arrive, and after the last one that named the attempt.
        """
        heard = tx.heard({task.worker for task in late if task.worker}, within=_LATELY * self._lease)
        return [Ending(task, _dropped(task) if self._spoke_without(task, heard) else _lost(task)) for task in late]

    def _spoke_without(self, task: HeldTask, heard: Mapping[WorkerId, float]) -> bool:
        """Tell whether the attempt's worker has given a sign of life that would name it if it had its order."""
        if task.worker is None or task.worker not in heard or task.lease_until is None:
            return False
        # Claimed then, or named for the last time.
        leased_at = task.lease_until - self._lease
        return ablated("heartbeat_moment") or heard[task.worker] >= leased_at + _ARRIVED * self._lease

    def _release_due(self, *, expire: bool) -> set[JobId]:
        with self._store.write() as tx:
            found = tx.due(limit=_BATCH, expire=expire)
            if not found:
                return set()
            board = Board(tx)
            board.lock([job_id for job_id, _ in found])
            released = tx.release_due([task_id for _, task_id in found], expire=expire)
            for task in released:
                if task.spawn:
                    board.apply(task.job_id, SpawnTaskMoved(task.stage, State.QUEUED))
            counts = Counter((task.job_id, task.stage) for task in released if not task.spawn)
            for (job_id, stage), count in counts.items():
                board.apply(job_id, TasksMoved(stage, {(State.PENDING, State.QUEUED): count}))
            board.save()
            failpoint("due.before_commit")
        failpoint("due.after_commit")
        return board.ended


def _dropped(task: HeldTask) -> Finished:
    return Finished(
        task.job_id,
        task.task_id,
        task.attempt,
        Outcome.INTERRUPTED,
        error="the worker does not know of this attempt: its order was lost on the way",
    )


def _lost(task: HeldTask) -> Finished:
    return Finished(
        task.job_id, task.task_id, task.attempt, Outcome.LOST, error="the worker's lease ran out during this attempt"
    )
