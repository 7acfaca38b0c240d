"""Somebody sets the clock of the datastore by an hour: no lease ends for that alone, and none lasts for ever."""

from __future__ import annotations

import pytest

from controller.core.states import State
from tests.engine.house import House, Make, Puppet, ref

CATALOGUE = """
    tasks: {step: {exec_command: "true"}}
    jobs: {one: {stages: [{name: One, task_class: step}]}}
"""
HOUR = 3600.0


@pytest.fixture
def house(make: Make) -> House:
    return make(CATALOGUE)


def silence(house: House, seconds: int) -> None:
    """Let time pass in which the engine turns and no worker is heard."""
    for _ in range(seconds):
        house.clock.pass_(1.0)
        house.turn(1)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_worker_that_renews_in_time_keeps_its_attempt_when_the_clock_is_set(house: House, step: float) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    silence(house, 3)
    puppet.heartbeat(running=(ref(held),))
    for _ in range(6):
        house.clock.skew += step
        silence(house, 5)
        puppet.heartbeat(running=(ref(held),))

    assert house.tasks(job_id)[0].state is State.RUNNING
    puppet.finish(held)
    assert house.view(job_id).state is State.COMPLETED
    assert house.tasks(job_id)[0].attempt == 1


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_silent_worker_is_lost_one_lease_after_the_clock_was_set(house: House, step: float) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    # The engine has heard for a lease: it may blame.
    silence(house, 10)
    house.clock.skew += step
    silence(house, 13)
    kept = house.tasks(job_id)[0].state
    silence(house, 4)

    assert kept is State.RUNNING
    assert house.tasks(job_id)[0].state is State.QUEUED
