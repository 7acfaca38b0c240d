"""Attempts, leases and workers: who runs what, who is believed, what comes back."""

from __future__ import annotations

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.shared.broker.port import Outgoing
from echelon.shared.ids import JobId, new_worker_id
from echelon.shared.messages import REPORTS, Outcome, Report, WorkerCard
from echelon.shared.volume.starts import StartLog
from tests.engine.house import House, Puppet, ref
from tests.engine.jobs import urls

MAX_LOSSES = 3


def test_a_failed_attempt_is_tried_again_after_its_delay_until_the_limit(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("retried")
    for attempt, delay in ((1, 5.0), (2, 10.0)):
        held = puppet.take()
        assert held[1].attempt == attempt
        puppet.finish(held, Outcome.FAILED)
        house.clock.pass_(delay - 0.1)
        puppet.heartbeat()
        assert puppet.granted == []
        house.clock.pass_(0.2)
        puppet.heartbeat()
    puppet.finish(puppet.take(), Outcome.TIMED_OUT)

    assert house.view(job_id).state is State.FAILED
    with house.store.read() as reader:
        attempts = reader.list_attempts(house.tasks(job_id)[0].task_id)
    assert [(one.attempt, one.outcome) for one in attempts] == [
        (1, Outcome.FAILED),
        (2, Outcome.FAILED),
        (3, Outcome.TIMED_OUT),
    ]


def test_a_result_that_comes_twice_counts_once(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("two")
    held = puppet.take()
    puppet.finish(held)
    puppet.finish(held)
    puppet.finish(held, Outcome.FAILED)

    assert [stage.tally.completed for stage in house.view(job_id).stages] == [1, 0]
    assert house.view(job_id).state is State.RUNNING


def test_a_result_from_a_worker_that_does_not_hold_the_attempt_is_dropped(house: House) -> None:
    puppet, rogue = Puppet(house), Puppet(house, name="rogue", room={})
    job_id = house.submit("one")
    held = puppet.take()
    rogue.finish(held)

    assert house.view(job_id).state is State.RUNNING
    puppet.finish(held)
    assert house.view(job_id).state is State.COMPLETED


def test_an_attempt_whose_lease_ran_out_runs_elsewhere_and_its_late_result_is_stale(house: House) -> None:
    silent = Puppet(house, name="silent")
    job_id = house.submit("one")
    first = silent.take()
    house.clock.pass_(15.1)
    other = Puppet(house, name="other")
    second = other.take()
    silent.finish(first)

    assert (first[1].attempt, second[1].attempt) == (1, 2)
    assert house.view(job_id).state is State.RUNNING
    other.finish(second)
    assert house.view(job_id).state is State.COMPLETED


def test_a_heartbeat_renews_the_lease_and_is_told_so(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    for _ in range(10):
        house.clock.pass_(5.0)
        puppet.heartbeat((ref(held),))

    assert puppet.renewed[-1] == puppet.number
    assert house.tasks(job_id)[0].attempt == 1
    puppet.finish(held)
    assert house.view(job_id).state is State.COMPLETED


def test_a_worker_that_believes_to_hold_what_it_does_not_is_told_to_stop(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    puppet.listen()
    puppet.stopped.clear()
    puppet.heartbeat((ref(held),))

    assert [stop.task_id for stop in puppet.stopped] == [held[1].task_id]


class Unlucky(Puppet):
    """A worker whose orders get lost on their way."""

    def __post_init__(self) -> None:
        StartLog(self.house.volume, self.worker).close()
        super().__post_init__()

    def listen(self) -> None:
        self.orders.ack(self.orders.take_deliveries(limit=100, timeout=0.0))


def outcomes(house: House, job_id: JobId) -> list[Outcome]:
    with house.store.read() as reader:
        return [one.outcome for one in reader.list_attempts(house.tasks(job_id)[0].task_id)]


def test_an_order_that_is_lost_on_its_way_costs_the_task_nothing(house: House) -> None:
    unlucky = Unlucky(house, room={"*": 1})
    job_id = house.submit("one")
    for _ in range(4 * MAX_LOSSES):
        house.clock.pass_(4.0)
        unlucky.heartbeat()
    unlucky.report(goodbye=True, room={})
    Puppet(house, name="other").run_all()

    assert house.view(job_id).state is State.COMPLETED
    (task,) = house.tasks(job_id)
    assert outcomes(house, job_id) == [Outcome.COMPLETED]
    assert (task.attempt, task.claim) == (1, MAX_LOSSES + 2)


@pytest.mark.parametrize("after", [0.01, 2.5, 4.99])
def test_signs_of_life_at_the_usual_pace_tell_of_a_lost_order_before_its_lease_ends(house: House, after: float) -> None:
    unlucky = Unlucky(house, room={"*": 1})
    job_id = house.submit("one")
    for pause in (after, 5.0, 5.0):
        house.clock.pass_(pause)
        unlucky.heartbeat()
    house.clock.pass_(6.1 - after)
    house.turn()

    (task,) = house.tasks(job_id)
    assert outcomes(house, job_id) == []
    assert (task.state, task.given_to) == (State.QUEUED, None)


def test_what_is_not_known_of_a_worker_that_keeps_no_file_of_its_starts_is_lost(house: House) -> None:
    worker = Puppet(house, room={"*": 1})
    job_id = house.submit("one")
    for _ in range(4):
        house.clock.pass_(4.0)
        worker.heartbeat()

    assert outcomes(house, job_id) == [Outcome.LOST]


@pytest.mark.parametrize("beats", [0, 1, 4])
def test_a_sign_of_life_that_is_read_late_does_not_tell_that_its_worker_lives(
    house: House, beats: int
) -> None:
    job_id = house.submit("one")
    for life in range(MAX_LOSSES):
        dead = Puppet(house, name=f"life {life}")
        held = dead.take_ahead()
        StartLog(house.volume, dead.worker).add_start(ref(held))
        dead.room = {}
        dead.heartbeat((ref(held),))
        for _ in range(beats):
            house.clock.pass_(5.0)
            dead.heartbeat((ref(held),))
        house.clock.pass_(14.0)
        card = WorkerCard(dead.name, "host", 1, "test", {"*": 1})
        house.broker.publish([Outgoing(REPORTS, Report(dead.worker, dead.number + 1, running=(), card=card))])
        house.turn()
        house.clock.pass_(1.1)
        house.turn()

    assert outcomes(house, job_id) == [Outcome.LOST] * MAX_LOSSES
    assert "worker_lost" in (house.view(job_id).error or "")


def test_a_worker_that_stood_still_for_longer_than_its_lease_has_lost_what_it_held(house: House) -> None:
    stopped = Puppet(house)
    job_id = house.submit("one")
    held = stopped.take()
    house.clock.pass_(4.0)
    stopped.heartbeat((ref(held),))
    house.clock.pass_(15.1)
    house.turn()
    stopped.heartbeat((ref(held),))

    assert outcomes(house, job_id) == [Outcome.LOST]


def test_a_task_that_takes_down_three_workers_fails_and_says_worker_lost(house: House) -> None:
    job_id = house.submit("one")
    for life in range(3):
        Puppet(house, name=f"life {life}").take()
        house.clock.pass_(15.1)
        house.turn()

    view = house.view(job_id)
    assert view.state is State.FAILED
    assert "worker_lost" in (view.error or "")


def test_the_next_life_of_a_worker_frees_what_the_dead_one_held_at_once(house: House) -> None:
    dead = Puppet(house)
    job_id = house.submit("one")
    dead.take()
    alive = Puppet(house, name="puppet", room={})
    alive.room = {"*": 1}
    alive.heartbeat(buried=(dead.worker,))

    assert alive.take()[1].attempt == 2
    assert house.view(job_id).state is State.RUNNING


def test_what_is_handed_back_runs_again_and_costs_nothing(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    for _ in range(5):
        puppet.report(released=(ref(puppet.take()),), room={"*": 1})
    puppet.finish(puppet.take(), Outcome.INTERRUPTED)
    puppet.finish(puppet.take())

    assert house.view(job_id).state is State.COMPLETED
    assert house.tasks(job_id)[0].attempt == 7


def test_a_goodbye_hands_everything_back(house: House) -> None:
    leaving = Puppet(house)
    house.submit("one")
    leaving.take()
    leaving.report(goodbye=True, room={})

    assert Puppet(house, name="other").take()[1].attempt == 2


def test_orders_that_no_worker_takes_come_back_at_once(house: House) -> None:
    house.submit("one")
    house.broker.publish([Outgoing(REPORTS, Report(worker=new_worker_id(), number=1, room={"*": 1}))])
    house.turn()

    assert Puppet(house, name="other").take()[1].attempt == 2


def test_tasks_run_only_where_somebody_listens_to_their_queue(house: House) -> None:
    plain = Puppet(house, room={"default": 5})
    house.submit("encoded")

    assert plain.granted == []
    with house.store.read() as reader:
        assert [(one.queue, one.ready) for one in reader.count_queues()] == [("transcoding", 1)]
    coder = Puppet(house, name="coder", room={"transcoding": 1})
    assert coder.take()[0].queue == "transcoding"


def test_two_workers_share_a_stage_evenly(house: House) -> None:
    one, two = Puppet(house, room={"*": 8}), Puppet(house, name="two", room={"*": 8})
    job_id = house.submit("many")
    first = one if one.granted else two
    one.listen(), two.listen()  # type: ignore[func-returns-value]
    first = one if one.granted else two
    first.finish(first.take(), items=urls(6))
    house.turn()
    one.listen(), two.listen()  # type: ignore[func-returns-value]

    assert (len(one.granted), len(two.granted)) == (3, 3)
    assert house.view(job_id).stages[0].tally.running == 6


def test_an_order_that_got_lost_takes_up_its_room_for_one_lease_only(house: House) -> None:
    deaf = Puppet(house, room={"*": 1})
    house.submit("one")
    house.submit("one")
    deaf.orders.take_deliveries(limit=10, timeout=0.0)
    deaf.heartbeat()
    assert deaf.granted == []
    house.clock.pass_(15.1)
    deaf.heartbeat()

    assert len(deaf.granted) == 1
