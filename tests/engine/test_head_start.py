"""The first tasks of a job are ordered by whoever accepts it, if the engine has nothing else to do."""

from __future__ import annotations

import pytest

from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Submission
from echelon.shared.broker.port import Outgoing
from echelon.shared.ids import JobId, new_worker_id
from echelon.shared.messages import REPORTS, Report, WorkerCard
from tests.engine.house import House, Make, Puppet, ref

CATALOGUE = """
tasks:
  work: {exec_command: "true"}
  special: {exec_command: "true", queue: special}
jobs:
  one: {stages: [{name: One, task_class: work}]}
  two:
    stages:
      - {name: One, task_class: work, order: 1}
      - {name: Two, task_class: work, order: 1}
  special: {stages: [{name: Special, task_class: special}]}
  held: {stages: [{name: Held, task_class: work, paused: true}]}
"""


@pytest.fixture
def house(make: Make) -> House:
    return make(CATALOGUE)


def accept(house: House, type_: str, *, idle: bool = True) -> JobId:
    """Submit a job without letting the engine see it."""
    if idle:
        house.controller.engine.turn(0.001)
    return house.jobs.submit_job(Submission(type_, {}, {}))[0]


def test_a_job_that_an_idle_controller_accepts_is_ordered_in_the_same_breath(house: House) -> None:
    worker = Puppet(house)

    job_id = accept(house, "one")

    held = worker.take()
    assert held[0].job_id == job_id and not worker.granted
    assert house.view(job_id).stages[0].tally.running == 1
    worker.finish(held)
    assert house.view(job_id).state is State.COMPLETED


def test_a_busy_engine_is_left_to_it(house: House) -> None:
    worker = Puppet(house)

    job_id = accept(house, "one", idle=False)

    worker.listen()
    assert not worker.granted
    house.turn()
    assert worker.take()[0].job_id == job_id


def test_what_there_is_no_room_for_is_left_to_the_engine(house: House) -> None:
    worker = Puppet(house, room={"default": 1})

    job_id = accept(house, "two")

    worker.listen()
    assert [grant.stage for grant, _ in worker.granted] == [0]
    worker.finish(worker.granted.pop(0))
    assert [grant.stage for grant, _ in worker.granted] == [1]
    assert house.view(job_id).stages[0].state is State.COMPLETED


def test_nothing_is_given_to_a_worker_that_does_not_serve_the_queue_nor_of_a_stage_that_is_paused(
    house: House,
) -> None:
    worker = Puppet(house, room={"default": 5})

    jobs = [accept(house, "special"), accept(house, "held")]

    worker.listen()
    assert not worker.granted
    house.turn()
    worker.listen()
    assert not worker.granted
    assert [house.view(job_id).state for job_id in jobs] == [State.RUNNING, State.RUNNING]


def test_an_order_that_reaches_nobody_comes_back_and_goes_to_another_worker(house: House) -> None:
    # Nobody has made the queue of its orders.
    deaf = Report(new_worker_id(), 1, card=WorkerCard("deaf", "host", 1, "test", {"*": 1}), room={"*": 1})
    house.broker.publish([Outgoing(REPORTS, deaf)])
    house.turn()
    job_id = accept(house, "one")
    assert house.tasks(job_id)[0].claim == 1

    other = Puppet(house, "other")

    held = other.take()
    assert (held[1].attempt, held[1].number) == (2, 1), "the first claim was given back"
    other.finish(held)
    assert house.view(held[0].job_id).state is State.COMPLETED


def test_the_room_that_is_used_is_not_given_twice(house: House) -> None:
    worker = Puppet(house, room={"*": 1})

    first, second = accept(house, "one"), accept(house, "one")

    worker.listen()
    assert [grant.job_id for grant, _ in worker.granted] == [first]
    held = worker.granted.pop(0)
    worker.room = {"*": 0}
    worker.heartbeat((ref(held),))
    assert not worker.granted
    worker.room = {"*": 1}
    worker.finish(held)
    assert worker.take()[0].job_id == second


def test_no_room_of_a_worker_is_used_that_has_long_been_silent(house: House) -> None:
    worker = Puppet(house)
    house.clock.pass_(house.settings.lease)

    accept(house, "one")

    worker.listen()
    assert not worker.granted
