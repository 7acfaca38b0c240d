"""The cost of a claim beside many open jobs: `python -m bench.claims [--postgresql]`.

100,000 tasks are queued, of 1, 100 or 10,000 jobs. A claim is one transaction, measured up to its commit. It finds the
jobs that come first, takes a task of each, saves them, and puts them behind the others.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from echelon.controller.core.events import TasksMoved
from echelon.controller.core.machine import step
from echelon.controller.core.model import Job, OnError, Source, Stage, Tally
from echelon.controller.core.states import State
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import NewJob, NewTask
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.ids import new_job_id, new_task_ids, new_worker_id
from tests.contract.servers import PrivatePostgresql, postgresql_binaries

_QUEUED = 100_000
#: Jobs inserted in one transaction.
_AT_ONCE = 500
_WORKER = new_worker_id()


def fill_store(store: Datastore, jobs: int) -> None:
    """Queue 100,000 tasks of so many jobs."""
    left = jobs
    while left:
        part = min(left, _AT_ONCE)
        with store.write() as tx:
            for _ in range(part):
                tx.insert_job(_make_job(_QUEUED // jobs))
        left -= part


def _make_job(tasks: int) -> NewJob:
    stage = Stage(
        0, 0, "work", Source.FIXED, OnError.FAIL_JOB, state=State.RUNNING, tally=Tally(queued=tasks), expected=tasks
    )
    rows = [
        NewTask(task_id, index, State.QUEUED, "work", "default") for index, task_id in enumerate(new_task_ids(tasks))
    ]
    return NewJob(Job(new_job_id(), State.RUNNING, (stage,)), "plain", "r1", {}, {}, [("work", None)], [rows])


def claim_tasks(tx: Transaction, jobs: int) -> None:
    """Claim a task of each of the first jobs."""
    line = tx.find_claimable(["default"], limit=64)
    for job_id, job in tx.lock_jobs([one.job_id for one in line[:jobs]], skip_locked=True).items():
        tx.claim_tasks(job_id, 0, spawn=False, count=1, worker=_WORKER, lease=60.0)
        after, _ = step(job, TasksMoved(0, {(State.QUEUED, State.RUNNING): 1}))
        tx.save_job(job, after)
        if len(line) > 1:
            tx.move_back(job_id)
    tx.flush_writes()


def measure_claims(store: Datastore, jobs: int, repeats: int) -> float:
    """Return the median of the seconds of a claim."""
    times = []
    for _ in range(repeats):
        with store.write() as tx:
            begun = time.perf_counter()
            claim_tasks(tx, jobs)
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


@click.command()
@click.option("--postgresql", is_flag=True, help="On a private PostgreSQL server instead of SQLite.")
@click.option("--repeats", default=200, show_default=True)
def main(postgresql: bool, repeats: int) -> None:
    """Print the milliseconds of a claim from one job and from eight."""
    for open_jobs in (1, 100, 10_000):
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url = f"sqlite:///{Path(folder)}/echelon.db"
            if postgresql and (binaries := postgresql_binaries()) is not None:
                url = stack.enter_context(PrivatePostgresql(binaries)).url
            migrate_datastore(url)
            store = open_datastore(url)
            stack.callback(store.close)
            fill_store(store, open_jobs)
            measure_claims(store, 1, 1)
            one, eight = (1000 * measure_claims(store, jobs, repeats) for jobs in (1, 8))
            click.echo(f"{open_jobs:6} open jobs: {one:.2f} ms from one job, {eight:.2f} ms from {min(8, open_jobs)}")


if __name__ == "__main__":
    main()
