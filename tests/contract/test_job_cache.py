"""What is kept of jobs between two transactions: no more than may be, and nothing for ever."""

from __future__ import annotations

from msgspec.structs import replace

from echelon.controller.core.states import State
from echelon.controller.datastore.cache import UNUSED_FOR, Entry, JobCache
from tests.contract.stores import plain_job


class Hand:
    """A clock in a test's hands."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def entry(stages: int = 1) -> Entry:
    job = plain_job().job
    return Entry(key=1, etag=1, job=replace(job, stages=job.stages[:1] * stages))


def test_the_jobs_used_least_recently_make_room() -> None:
    cache = JobCache(capacity=5)
    first, second, third = entry(2), entry(2), entry(2)
    cache.update_jobs([first, second], [])
    assert cache.find_job(first.job.job_id, 1) is first
    cache.update_jobs([third], [])

    assert [cache.find_job(one.job.job_id, 1) for one in (first, second, third)] == [first, None, third]


def test_a_job_that_nobody_asks_for_any_more_is_dropped_for_another_controller_may_have_ended_it() -> None:
    clock = Hand()
    cache = JobCache(now=clock)
    ended_elsewhere, used = entry(), entry()
    cache.update_jobs([ended_elsewhere, used], [])
    clock.now += UNUSED_FOR / 2
    assert cache.find_job(used.job.job_id, 1) is used
    clock.now += UNUSED_FOR / 2 + 1.0
    cache.update_jobs([], [])

    assert cache.find_job(ended_elsewhere.job.job_id, 1) is None
    assert cache.find_job(used.job.job_id, 1) is used


def test_a_job_that_has_ended_or_has_another_etag_is_not_known() -> None:
    cache = JobCache()
    known = entry()
    cache.update_jobs([known], [])
    assert cache.find_job(known.job.job_id, 2) is None

    cache.update_jobs([replace(known, job=replace(known.job, state=State.COMPLETED))], [])
    assert cache.find_job(known.job.job_id, 1) is None
