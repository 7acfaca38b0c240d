"""Jobs that wait in one queue share its slots: no job waits for more than one grant of each other job."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import text

from echelon.controller.engine.base.requests import Composition, InvalidInputs, Submission
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId
from echelon.shared.messages import AttemptRef
from echelon.worker.backlog import Backlog, HeldAttempt
from tests.engine.house import House, Make, Puppet
from tests.engine.jobs import urls
from tests.system.process import until

WIDE = """
    tasks:
      list: {exec_command: "true", queue: lists}
      fetch: {exec_command: "true", input: {url: {source: parameter}}}
      step: {exec_command: "true"}
      encode: {exec_command: "true", queue: transcoding}
      eager: {exec_command: "true", priority: 7}
    jobs:
      one: {stages: [{name: One, task_class: step}]}
      urgent: {priority: 9, stages: [{name: One, task_class: step}]}
      eager: {priority: 1, stages: [{name: One, task_class: eager}, {name: Two, task_class: step}]}
      many: {stages: [{name: Fetch, spawn_task: list, task_class: fetch}]}
      chain: {stages: [{name: A, task_class: step}, {name: B, task_class: step}, {name: C, task_class: step}]}
      broad:
        stages:
        - {name: A, order: 0, task_class: step}
        - {name: B, order: 0, task_class: step}
        - {name: C, order: 0, task_class: step}
        - {name: D, order: 0, task_class: encode}
"""


@pytest.fixture
def wide(make: Make) -> House:
    return make(WIDE)


def fill(house: House, puppet: Puppet, items: int) -> JobId:
    """Submit a job and have its spawn task leave so many items, while the worker has room for that task alone."""
    puppet.room = {"lists": 1}
    puppet.heartbeat()
    job_id = house.submit("many")
    held = puppet.take()
    puppet.room = {"lists": 0}
    puppet.finish(held, items=urls(items))
    return job_id


def run_next(puppet: Puppet, room: int) -> list[JobId]:
    """Report so many free slots; return the jobs of the tasks that are granted, and finish these."""
    puppet.room = {"*": room}
    puppet.heartbeat()
    held, puppet.granted = puppet.granted, []
    puppet.room = {"*": 0}
    for one in held:
        puppet.finish(one)
    return [grant.job_id for grant, _ in held]


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_a_task_of_another_job_waits_for_one_grant_at_most(wide: House, slots: int) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 200)
    for _ in range(3):
        assert run_next(puppet, slots) == [large] * slots

    small = wide.submit("one")

    started = run_next(puppet, slots) + run_next(puppet, slots)
    assert started.count(small) == 1
    assert started.index(small) <= 2 * slots - 1


def start_ahead(puppet: Puppet, backlog: Backlog, slots: int, ahead: int) -> list[JobId]:
    """Let a worker ask for tasks ahead, start as many as it has slots, and finish these; return their jobs."""
    waiting = backlog.find_arrived(0.0)
    puppet.room = {"*": slots + ahead - len(waiting)}
    puppet.heartbeat(running=tuple(held.ref for held in waiting))
    puppet.room = {"*": 0}
    for grant, task in puppet.granted:
        ref = AttemptRef(task.task_id, task.attempt)
        backlog.add_attempt(HeldAttempt(ref, grant, task, arrived=0.0, lease_end=0.0, lease=0.0, reserve=0.0))
    puppet.granted = []
    taken = [backlog.take_next(lambda queue: queue) for _ in range(slots)]
    started = [one[0] for one in taken if one is not None]
    for held in started:
        puppet.finish((held.grant, held.task))
    return [held.grant.job_id for held in started]


@pytest.mark.parametrize("slots", [1, 4])
def test_a_single_task_waits_for_the_slots_and_one_grant_of_ten_thousand_others(wide: House, slots: int) -> None:
    puppet, backlog, ahead = Puppet(wide), Backlog(), 60
    large = fill(wide, puppet, 10_000)
    until(lambda: (wide.turn(), wide.view(large).stages[0].tally.queued == 10_000)[1], "all items are tasks")
    assert start_ahead(puppet, backlog, slots, ahead) == [large] * slots
    small = wide.submit("one")

    started = [job for _ in range(20) for job in start_ahead(puppet, backlog, slots, ahead)]

    assert len(started) == 20 * slots
    assert started.index(small) <= 2 * slots  # each report asks for as many as there are slots


@pytest.mark.parametrize("slots", [1, 3, 4, 30])
def test_ten_jobs_share_a_queue_evenly(wide: House, slots: int) -> None:
    puppet = Puppet(wide)
    jobs = [fill(wide, puppet, 40) for _ in range(10)]

    started: Counter[JobId] = Counter()
    for _ in range(120 // slots):
        started.update(run_next(puppet, slots))

    assert sum(started.values()) == 120 // slots * slots
    shares = [started[job] for job in jobs]
    assert max(shares) - min(shares) <= max(1, -(-slots // 8)), shares  # one grant


def test_free_slots_that_a_small_job_does_not_need_go_to_a_large_one(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 100)
    small = fill(wide, puppet, 2)

    assert Counter(run_next(puppet, 20)) == {large: 18, small: 2}


def test_a_job_with_many_stages_is_given_no_more_than_one_with_one(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 100)
    broad = wide.submit("broad")

    started = [job for _ in range(8) for job in run_next(puppet, 1)]

    assert started in ([large, broad] * 4, [broad, large] * 4)


def test_the_next_stage_of_a_chain_stands_behind_the_others(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 100)
    chains = [wide.submit("chain") for _ in range(3)]

    started = [job for _ in range(12) for job in run_next(puppet, 1)]

    assert Counter(started) == {large: 3, **dict.fromkeys(chains, 3)}


def test_a_stream_of_new_jobs_does_not_hold_up_an_old_one(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 100)

    started = []
    for _ in range(10):
        wide.submit("one")
        wide.submit("one")
        started += run_next(puppet, 2)

    gaps = [place for place, job in enumerate(started) if job == large]
    assert len(gaps) >= 2
    assert started[:3].count(large) >= 1


def test_new_small_jobs_do_not_hold_up_a_large_one_while_slots_of_another_queue_are_free(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 100)
    puppet.room = {"*": 0}

    started = []
    for _ in range(10):
        wide.submit("one")
        wide.submit("one")
        puppet.report(room={"default": 1, "transcoding": 5})
        started.append(puppet.granted[0][0].job_id)
        puppet.finish(puppet.granted.pop())
        assert not puppet.granted

    # Three stand in line at first, and more come in each round than leave it.
    assert started[0] == large
    assert started.count(large) >= 2


def test_jobs_are_served_in_the_order_of_submission_while_each_has_one_task(wide: House) -> None:
    puppet = Puppet(wide)
    puppet.room = {"*": 0}
    puppet.heartbeat()
    jobs = [wide.submit("one") for _ in range(30)]

    assert [job for _ in range(10) for job in run_next(puppet, 3)] == jobs


def test_workers_of_single_queues_get_all_that_they_can_take(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 100)
    broad = wide.submit("broad")
    puppet.room = {"default": 6, "transcoding": 4}
    puppet.heartbeat()

    assert Counter(grant.job_id for grant, _ in puppet.granted) == {large: 3, broad: 4}


def test_a_job_that_waits_alone_is_given_no_new_place(wide: House) -> None:
    puppet = Puppet(wide)
    fill(wide, puppet, 30)
    place = places(wide)

    run_next(puppet, 4)
    assert places(wide) == place

    wide.submit("one")
    run_next(puppet, 4)
    assert places(wide) != place


def test_a_higher_priority_goes_first_however_late_it_is_submitted(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 20)
    plain, eager, urgent = wide.submit("one"), wide.submit("eager"), wide.submit("urgent")

    assert [job for _ in range(3) for job in run_next(puppet, 1)] == [urgent, eager, eager]
    assert set(run_next(puppet, 2)) == {large, plain}


def test_a_submission_brings_a_priority_of_its_own_and_that_of_a_task_class_stands_over_it(wide: House) -> None:
    puppet = Puppet(wide)
    fill(wide, puppet, 20)
    eager, plain, urgent = (
        wide.jobs.submit_job(Submission(name, {}, priority=priority))[0]
        for name, priority in (("eager", 9), ("one", 8), ("urgent", 0))
    )

    assert [stage.priority for stage in wide.view(eager).stages] == [7, 9]
    assert [wide.view(job).stages[0].priority for job in (plain, urgent)] == [8, 0]
    assert [job for _ in range(3) for job in run_next(puppet, 1)] == [plain, eager, eager]


def test_grants_carry_the_priority(wide: House) -> None:
    puppet = Puppet(wide)
    wide.submit("eager")

    assert puppet.take()[0].priority == 7


def test_a_composed_job_has_a_priority_and_each_of_its_stages_has_one(make: Make) -> None:
    house = make(WIDE, allow_inline_commands=True)
    own = {"exec_command": "true"}
    stages = [{"name": "A", "tasks": [own]}, {"name": "B", "tasks": [{**own, "priority": 2}]}]
    job_id, _ = house.jobs.submit_composition(Composition("composed", stages, priority=5))

    assert [stage.priority for stage in house.view(job_id).stages] == [5, 2]
    mixed = [{"name": "A", "tasks": [own, {**own, "priority": 2}]}]
    with pytest.raises(InvalidInputs, match="tasks/1: its priority is 2, its stage's is the job's: put it into a"):
        house.jobs.submit_composition(Composition("composed", mixed))


def test_the_same_key_with_another_priority_is_another_request(wide: House) -> None:
    wide.jobs.submit_job(Submission("one", {}, idempotency_key="k"))

    with pytest.raises(Conflict):
        wide.jobs.submit_job(Submission("one", {}, idempotency_key="k", priority=3))


def test_what_waits_is_given_another_priority(wide: House) -> None:
    puppet = Puppet(wide)
    large = fill(wide, puppet, 20)
    plain, urgent = wide.submit("one"), wide.submit("urgent")
    control = wide.jobs.control

    control.set_priority(plain, 9)
    control.set_priority(large, 8, stage=0)
    control.set_priority(urgent, 7)

    assert [job for _ in range(22) for job in run_next(puppet, 1)] == [plain, *[large] * 20, urgent]


def test_a_higher_priority_is_granted_beyond_the_free_slots_where_others_wait_at_a_worker(wide: House) -> None:
    puppet = Puppet(wide)
    fill(wide, puppet, 100)
    # Two slots, and four attempts asked for ahead, of which two wait already.
    puppet.report(room={"*": 4}, ahead={"*": 2}, urgent={"*": {0: 2}})
    assert len(puppet.granted) == 4
    puppet.granted.clear()

    wide.submit("one")
    urgent = [wide.submit("urgent") for _ in range(6)]
    eager = wide.submit("eager")

    puppet.listen()
    # As many as wait at the worker, and then none.
    assert [(grant.job_id, grant.priority) for grant, _ in puppet.granted] == [(job, 9) for job in urgent[:4]]
    puppet.granted.clear()
    puppet.report(room={"*": 0}, ahead={}, urgent={"*": {0: 4}})
    assert [grant.job_id for grant, _ in puppet.granted] == [*urgent[4:], eager]


def test_a_free_slot_goes_before_the_first_place_at_a_busy_worker(wide: House) -> None:
    busy, free = Puppet(wide, room={"*": 0}), Puppet(wide, room={"*": 1})
    busy.report(room={"*": 0}, urgent={"*": {0: 5}})

    first, second = wide.submit("urgent"), wide.submit("urgent")

    free.listen()
    busy.listen()
    assert [grant.job_id for grant, _ in free.granted] == [first]
    assert [grant.job_id for grant, _ in busy.granted] == [second]


def places(house: House) -> list[int]:
    with house.store.read() as reader:
        rows = reader._connection.execute(text("SELECT served FROM stages WHERE ready > 0 ORDER BY key"))
        return [row[0] for row in rows]
