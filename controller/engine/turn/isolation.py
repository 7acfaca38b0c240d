"""Let suspects run alone, so that a task which takes its worker down takes no other task's last chance along.

A suspect is a task whose next loss would be its last. It is given to a worker that is kept for it: nothing else is
granted there from then on, the suspect is claimed when all that the worker held before has ended (nothing is ended for
its sake), and when the suspect has ended the next one follows. The worker is free again when its stage has no suspect
left. The reservation of a worker is stored with its capacity, so that every controller knows the same; each turn looks
whether it still has a reason, so that no worker stays kept for a job that has been cancelled or deleted.
"""

from __future__ import annotations

from echelon.controller.datastore.claims import Load
from echelon.controller.datastore.workers import Capacity
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.turn.capacities import Capacities, reported_for, serves_queue
from echelon.controller.engine.turn.claiming import ClaimedTasks, ClaimRules, must_wait_for_files
from echelon.shared.ids import JobId, WorkerId

_Loads = dict[WorkerId, Load]


class Isolation:
    """Keeps workers for suspects, and gives them these."""

    def __init__(self, claims: ClaimRules, snapshots: Snapshots) -> None:
        self._claims = claims
        self._snapshots = snapshots

    def serve_kept_workers(self, unit: UnitOfWork, demands: Capacities) -> list[ClaimedTasks]:
        """Give kept workers that hold nothing any more their next suspect; free those without a reason."""
        kept = [demand for demand in demands.find_trusted() if demand.alone is not None]
        if not kept:
            return []
        loads = unit.tx.count_loads([demand.worker for demand in kept])
        grantings = (self._claim_next(unit, demands, demand, loads.get(demand.worker)) for demand in kept)
        return [granting for granting in grantings if granting is not None]

    def keep_workers(
        self, unit: UnitOfWork, demands: Capacities, job_id: JobId, number: int, suspects: int
    ) -> list[ClaimedTasks]:
        """Keep workers for the suspects of a stage, so many of which wait; grant where that is possible at once.

        At most half of the workers of a queue are kept, the least loaded first: a few suspects must not hold up
        everything, and many (a power cut strikes twice) must not wait for a single worker.
        """
        job = unit.find_job(job_id)
        assert job is not None, "the caller has claimed of it"
        queue = job.stage(number).claim_queue
        serving = [demand for demand in demands.find_trusted() if serves_queue(demand, queue)]
        kept = [demand for demand in serving if demand.alone is not None]
        for_it = sum(demand.alone == (job_id, number) for demand in kept)
        count = min(suspects - for_it, max(1, len(serving) // 2) - len(kept))
        if count <= 0:
            return []
        free = [demand for demand in serving if demand.alone is None]
        loads = unit.tx.count_loads([demand.worker for demand in free])
        chosen = sorted(free, key=lambda demand: _count_attempts(loads, demand))[:count]
        for demand in chosen:
            demands.keep_worker(demand, (job_id, number))
        grantings = (self._claim_next(unit, demands, demand, loads.get(demand.worker)) for demand in chosen)
        return [granting for granting in grantings if granting is not None]

    def _claim_next(
        self, unit: UnitOfWork, demands: Capacities, demand: Capacity, load: Load | None
    ) -> ClaimedTasks | None:
        """Give a kept worker its next suspect if it can take it; free it when there is nothing to keep it for."""
        assert demand.alone is not None
        job_id, number = demand.alone
        if load is not None and load.losses in self._claims.suspected:
            return None
        unit.lock_jobs([job_id], skip_locked=True)
        job = unit.find_job(job_id)
        if job is None:
            if not unit.tx.job_exists(job_id):
                demands.keep_worker(demand, None)
            return None
        stage = job.stage(number)
        if not stage.claimable or not serves_queue(demand, stage.claim_queue):
            demands.keep_worker(demand, None)
            return None
        if load is not None or not reported_for(demand, stage.claim_queue):
            return None
        if must_wait_for_files(unit, self._snapshots, job_id, number):
            return None
        granting = self._claims.claim_tasks(
            unit, demands, demand, job_id, stage, count=1, losses=self._claims.suspected
        )
        if granting is None:
            demands.keep_worker(demand, None)
        return granting


def _count_attempts(loads: _Loads, demand: Capacity) -> int:
    load = loads.get(demand.worker)
    return load.attempts if load else 0
