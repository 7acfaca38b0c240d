"""Tags of jobs, stages and tasks: each change of what is shown makes a new one."""

from __future__ import annotations

from echelon.controller.core.events import CancelRequested, PauseRequested
from echelon.controller.core.states import State
from echelon.controller.datastore.port import Datastore
from tests.contract.stores import claim, fan_out, stepped
from tests.contract.test_datastore_verbs import rows


def test_the_etag_of_a_task_changes_when_it_is_put_off_and_when_its_time_does(
    store: Datastore,
) -> None:
    job_id = fan_out(store, 1)
    etags = []
    with store.write() as tx:
        claim(tx, job_id, 1, lease=3600.0)
        tx.end_tasks(job_id, 0, State.CANCELLED, by="me", spans=((0, 0),))
        tx.reopen_tasks(job_id, 0, target=State.QUEUED, sources={State.CANCELLED})
    for change in (lambda tx: tx.wait_for_exit(job_id, 0), lambda tx: tx.shorten_leases(longest=15.0)):
        etags.append(rows(store, job_id)[0].etag)
        with store.write() as tx:
            tx.lock_jobs([job_id])
            change(tx)

    etags.append(rows(store, job_id)[0].etag)

    assert etags == sorted(set(etags))


def test_the_etag_of_a_task_changes_when_its_worker_tells_that_its_last_attempt_is_gone(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        (task,) = claim(tx, job_id, 1)
        tx.withdraw_tasks(job_id, 0, running=True)
        tx.restore_tasks(job_id, 0, target=State.QUEUED)
        assert tx.wait_for_exit(job_id, 0) == (1, False)
    (before,) = rows(store, job_id)

    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.clear_leases(tx.load_tasks([task.task_id]))

    (after,) = rows(store, job_id)
    assert (before.due_at == after.due_at, before.etag == after.etag) == (False, False)


def test_etags_change_with_every_change(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        with store.write() as tx:
            tx.lock_jobs([job_id])
            seen.append((tx.job_etag(job_id), tx.stage_etag(job_id, 0), rows(store, job_id)[0].etag))
        with store.read() as reader:
            view = reader.find_job(job_id)
        assert view is not None and seen[-1][:2] == (view.etag, view.stages[0].etag)

    look()
    with store.write() as tx:
        claim(tx, job_id, 1)
    look()
    with store.write() as tx:
        stepped(tx, job_id, PauseRequested("me", 0))
        tx.pause_tasks(job_id, 0, spans=((0, 0),), by="me")
    look()
    with store.write() as tx:
        stepped(tx, job_id, CancelRequested("me"))
    look()

    for one in zip(*seen, strict=True):
        assert list(one) == sorted(set(one))
