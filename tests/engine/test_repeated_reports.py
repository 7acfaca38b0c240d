"""An old report that comes again does nothing."""

from __future__ import annotations

import msgspec
import pytest

from echelon.controller.core.states import State
from echelon.shared.broker.port import Outgoing
from echelon.shared.messages import REPORTS, Outcome, Report
from tests.engine.house import House, Puppet, ref
from tests.engine.test_attempts import outcomes


def repeat(house: House, *reports: Report) -> None:
    """Send reports again, as a program may that has read them."""
    house.broker.publish([Outgoing(REPORTS, report) for report in reports])
    house.turn()


def record(house: House) -> list[Report]:
    """Return a list of all reports that are published from now on."""
    recorded: list[Report] = []
    publish = house.broker.publish

    def note(messages: list[Outgoing], **more: object) -> None:
        recorded.extend(one.message for one in messages if isinstance(one.message, Report))
        publish(messages, **more)  # type: ignore[arg-type]

    house.broker.publish = note  # type: ignore[method-assign, assignment]
    return recorded


@pytest.mark.parametrize("beats", [1, 3])
def test_heartbeats_of_a_dead_worker_that_come_again_do_not_keep_its_attempt(house: House, beats: int) -> None:
    recorded = record(house)
    job_id = house.submit("one")
    dead = Puppet(house, name="dead", room={"*": 1})
    held = dead.take()
    for _ in range(beats):
        house.clock.pass_(3.0)
        dead.heartbeat((ref(held),))
    heard = list(recorded)
    alive = Puppet(house, name="alive", room={})
    for _ in range(8):
        house.clock.pass_(2.0)
        repeat(house, *heard)
    alive.room = {"*": 1}
    alive.heartbeat()

    assert outcomes(house, job_id)[0] is Outcome.LOST
    assert alive.take()[1].attempt == 2


def test_room_of_a_dead_worker_that_comes_again_gets_no_tasks(house: House) -> None:
    recorded = record(house)
    dead = Puppet(house, name="dead")
    house.clock.pass_(60.0)
    for _ in range(3):
        repeat(house, *recorded)
        house.clock.pass_(20.0)
    house.submit("one")
    repeat(house, *recorded)

    assert dead.granted == [] and house.tasks(house.submit("one"))[0].attempt == 0


def test_results_and_goodbyes_that_come_again_count_once(house: House) -> None:
    recorded = record(house)
    worker = Puppet(house, room={"*": 1})
    job_id = house.submit("one")
    worker.finish(worker.take())
    worker.report(goodbye=True, room={})
    before = house.kinds(job_id)
    next_ = Puppet(house, name="puppet", room={"*": 1})
    second = house.submit("one")
    held = next_.take()
    repeat(house, *recorded[:-1])

    assert house.kinds(job_id) == before
    assert house.view(second).state is State.RUNNING
    next_.finish(held)
    assert house.view(second).state is State.COMPLETED


def test_a_heartbeat_that_another_controller_reads_after_a_later_report_renews_all_the_same(house: House) -> None:
    recorded = record(house)
    job_id = house.submit("one")
    worker = Puppet(house, room={"*": 1})
    held = worker.take()
    for _ in range(8):
        house.clock.pass_(3.0)
        worker.number += 1
        beat = msgspec.structs.replace(recorded[0], number=worker.number, running=(ref(held),))
        worker.report()
        repeat(house, beat)

    assert outcomes(house, job_id) == [] and house.tasks(job_id)[0].state is State.RUNNING
    house.clock.pass_(16.0)
    repeat(house, beat)
    assert outcomes(house, job_id) == [Outcome.LOST]
