"""The next attempt of a task that a person (or a failing job) has ended waits for the processes of the one before."""

from __future__ import annotations

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Choice
from echelon.shared.ids import JobId
from echelon.shared.lease import RETURN_TIME
from echelon.shared.messages import AttemptRef, Grant, GrantedTask, Outcome
from tests.engine.house import House, Puppet, ref
from tests.engine.jobs import spawned, urls

ALL = Choice(only_failed=False)


def failed_fast(house: House, puppet: Puppet) -> tuple[JobId, list[tuple[Grant, GrantedTask]]]:
    """Return a job that has failed fast, and the attempts that were stopped for that and may still be there."""
    job_id = spawned(house, puppet, "hasty", urls(3))
    failed = puppet.take()
    puppet.finish(failed, Outcome.FAILED)
    stopped, puppet.granted = puppet.granted, []
    assert house.view(job_id).state is State.FAILED
    assert {AttemptRef(stop.task_id, stop.attempt) for stop in puppet.stopped} == {ref(one) for one in stopped}
    return job_id, stopped


def test_what_failed_fast_waits_for_its_processes_when_a_skip_lets_the_job_go_on(house: House) -> None:
    puppet = Puppet(house)
    job_id, stopped = failed_fast(house, puppet)
    failed = next(task for task in house.tasks(job_id, 0) if task.state is State.FAILED)
    house.jobs.control.change_task(Verb.SKIP, failed.task_id)
    puppet.heartbeat()
    assert puppet.granted == []
    assert house.view(job_id).stages[0].tally.pending == 2

    puppet.finish(stopped[0], Outcome.STOPPED)

    assert [ref(one) for one in puppet.granted] == [AttemptRef(stopped[0][1].task_id, 2)]
    puppet.run_all()
    puppet.finish(stopped[1], Outcome.STOPPED)
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED


def test_it_waits_no_longer_than_its_lease(house: House) -> None:
    puppet = Puppet(house)
    job_id, stopped = failed_fast(house, puppet)
    house.jobs.control.change_stage(Verb.SKIP, job_id, 0, choice=Choice(state=State.FAILED))
    house.clock.pass_(house.settings.lease - 1.0)
    puppet.heartbeat()
    assert puppet.granted == []

    house.clock.pass_(2.0)
    puppet.heartbeat()

    assert len(puppet.granted) == len(stopped)


def repeated_from_the_first_stage(house: House, puppet: Puppet) -> tuple[JobId, tuple[Grant, GrantedTask]]:
    """Return a job that runs again from its first stage while an attempt of its second may still be there."""
    job_id = house.submit("two")
    puppet.finish(puppet.take())
    dying = puppet.take()
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    house.jobs.control.change_job(Verb.RETRY, job_id, choice=ALL)
    house.turn()
    return job_id, dying


def test_a_stage_that_begins_again_leaves_tasks_waiting_whose_processes_may_be_there(house: House) -> None:
    puppet = Puppet(house)
    job_id, dying = repeated_from_the_first_stage(house, puppet)
    puppet.finish(puppet.take())
    puppet.heartbeat()
    assert house.view(job_id).stages[1].state is State.RUNNING
    assert puppet.granted == []

    puppet.finish(dying, Outcome.STOPPED)

    assert ref(puppet.take()) == AttemptRef(dying[1].task_id, 2)


@pytest.mark.parametrize("told", [True, False])
def test_a_task_that_goes_on_while_its_processes_may_be_there_runs_when_they_are_gone(house: House, told: bool) -> None:
    puppet = Puppet(house)
    job_id, dying = repeated_from_the_first_stage(house, puppet)
    house.jobs.control.change_task(Verb.PAUSE, dying[1].task_id)
    puppet.finish(puppet.take())
    house.jobs.control.change_task(Verb.RESUME, dying[1].task_id)
    puppet.heartbeat()
    assert house.view(job_id).stages[1].state is State.RUNNING
    assert puppet.granted == []

    if told:
        puppet.finish(dying, Outcome.STOPPED)
    else:
        house.clock.pass_(house.settings.lease + 1.0)
        puppet.heartbeat()

    assert ref(puppet.take()) == AttemptRef(dying[1].task_id, 2)


def test_a_lease_is_not_over_for_a_controller_that_nobody_could_reach_meanwhile(house: House) -> None:
    puppet = Puppet(house)
    house.submit("one")
    held = puppet.take()
    house.jobs.control.change_task(Verb.RETRY, held[1].task_id)
    engine = house.controller.engine
    # As it is when the store or the broker was away until now: the worker goes on with what nobody could take away.
    engine.hearing.note_outage()
    house.clock.pass_(house.settings.lease + 1.0)
    puppet.heartbeat(running=(ref(held),))
    assert puppet.granted == []

    house.clock.pass_(house.settings.lease + RETURN_TIME)
    puppet.heartbeat()

    assert ref(puppet.take()) == AttemptRef(held[1].task_id, 2)


def test_it_is_told_when_a_task_that_waits_for_its_last_attempt_runs_again_at_the_latest(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    claimed = house.clock.seconds
    house.clock.pass_(5.0)
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    house.jobs.control.change_job(Verb.RETRY, job_id)
    (waiting,) = house.tasks(job_id)
    house.jobs.control.change_task(Verb.PAUSE, held[1].task_id)
    puppet.finish(held, Outcome.STOPPED)

    assert (waiting.state, waiting.not_before) == (State.PENDING, claimed + house.settings.lease)
    assert house.tasks(job_id)[0].not_before is None
