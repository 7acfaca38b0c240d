"""As many jobs are open as may be: then no more are taken, until some have ended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.engine.base.requests import Composition, Submission, TooManyJobs
from echelon.controller.engine.upkeep.open_jobs import COUNTED_EVERY
from tests.engine.house import House, Make, Puppet


def counted(house: House) -> None:
    """Let the engine count, as it does from time to time."""
    house.clock.pass_(COUNTED_EVERY)
    house.turn()


def test_the_limit_is_held_by_what_this_controller_has_accepted_since_the_last_count(make: Make) -> None:
    house = make(max_open_jobs=2)
    house.submit("one")
    house.submit("one")

    with pytest.raises(TooManyJobs, match="about 2 are open, and at most 2 may be"):
        house.submit("one")
    with pytest.raises(TooManyJobs):
        house.jobs.submit_composition(Composition("mine", [{"name": "One", "task_class": "step"}]))


def test_jobs_are_taken_again_when_some_have_ended_and_that_was_counted(make: Make) -> None:
    house = make(max_open_jobs=2)
    house.submit("one")
    house.jobs.control.change_job(Verb.CANCEL, house.submit("one"))
    counted(house)
    house.submit("one")

    with pytest.raises(TooManyJobs):
        house.submit("one")
    Puppet(house).run_all()
    counted(house)
    house.submit("one")


def test_what_has_ended_since_the_last_count_is_seen_before_a_job_is_refused(make: Make) -> None:
    house = make(max_open_jobs=2)
    counted(house)
    for _ in range(4):
        house.jobs.control.change_job(Verb.CANCEL, house.submit("one"))
        house.clock.pass_(1.0)

    house.submit("one")
    house.submit("one")
    with pytest.raises(TooManyJobs):
        house.submit("one")


def test_what_another_controller_has_accepted_counts_too(make: Make) -> None:
    house = make(max_open_jobs=1)
    other = make(max_open_jobs=0, datastore=house.settings.datastore_url)
    other.submit("one")
    counted(house)

    with pytest.raises(TooManyJobs):
        house.submit("one")
    for _ in range(3):
        other.submit("one")


def test_a_submit_that_comes_again_finds_its_job_however_many_are_open(make: Make) -> None:
    house = make(max_open_jobs=1)
    job_id, _ = house.jobs.submit_job(Submission("one", {}, idempotency_key="k"))

    assert house.jobs.submit_job(Submission("one", {}, idempotency_key="k")) == (job_id, False)
    with pytest.raises(TooManyJobs):
        house.jobs.submit_job(Submission("one", {}, idempotency_key="another"))


def test_a_count_forgets_nothing_that_was_accepted_while_it_was_made(make: Make) -> None:
    house = make(max_open_jobs=3)
    open_jobs = house.controller.jobs._parts.open_jobs

    def reading():  # type: ignore[no-untyped-def]
        # A job is accepted while the count is made.
        open_jobs.note_accepted()
        return house.store.read()

    open_jobs._store = SimpleNamespace(read=reading)  # type: ignore[assignment]
    counted(house)
    open_jobs._store = house.store
    house.submit("one")
    house.submit("one")

    with pytest.raises(TooManyJobs):
        house.submit("one")
