"""Why something does not move on: each reason is brought about and told."""

from __future__ import annotations

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.engine.base.requests import Choice, Submission, Who
from echelon.controller.engine.why.explanations import Code, Reason
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome, WorkerCard
from tests.engine.house import House, Make, Puppet, ref
from tests.engine.jobs import CATALOGUE, spawned, urls

BLOCKED = (
    CATALOGUE
    + """
      blocked:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch, on_error: block}
        - {name: After, task_class: step, order: 7}
      opened:
        stages:
        - {name: One, task_class: step}
        - {name: Later, task_class: fetch, tasks: open}
        - {name: Held, task_class: step, paused: true}
"""
)


def why(house: House, job_id: JobId, stage: int | None = None, index: int | None = None) -> Reason:
    return house.jobs.reasons.find_reason(job_id, stage, index)


def test_a_job_whose_queue_nobody_serves_says_so(house: House) -> None:
    job_id = house.submit("encoded")
    Puppet(house, room={"default": 3})

    reason = why(house, job_id)

    assert reason.code is Code.NO_WORKER_FOR_QUEUE
    assert reason.sentence == "1 task waits for the queue 'transcoding', and no worker takes tasks from it."
    assert why(house, job_id, 0, 0).code is Code.NO_WORKER_FOR_QUEUE


def test_a_stage_waits_for_the_one_in_front_of_it(house: House) -> None:
    job_id = house.submit("two")
    Puppet(house).take()

    assert why(house, job_id, 1).sentence == "Stage 1 (Two) waits for stage 0 (One), which is RUNNING."
    assert why(house, job_id, 1, 0).code is Code.WAITING_STAGE
    assert why(house, job_id).code is Code.RUNNING
    assert why(house, job_id, 0, 0).sentence == "Task 0 runs on puppet, attempt 1."


def test_a_pause_is_told_with_who_and_since_when(house: House) -> None:
    job_id = house.submit("two")
    control = house.jobs.control
    task_id = house.tasks(job_id)[0].task_id
    control.change_task(Verb.PAUSE, task_id)
    task = why(house, job_id, 0, 0)
    assert (task.code, task.sentence, task.at) == (Code.PAUSED, "Task 0 is paused by somebody.", house.clock.seconds)
    assert why(house, job_id).sentence == "Task 0 of stage 0 (One) is paused by somebody."
    assert (why(house, job_id).by, why(house, job_id, 0).at) == ("somebody", house.clock.seconds)
    control.change_stage(Verb.PAUSE, job_id, 0)
    assert why(house, job_id).sentence == "Stage 0 (One) is paused by somebody."
    control.change_job(Verb.PAUSE, job_id)

    assert why(house, job_id, 1).sentence == "The job is paused by somebody."


def test_a_job_that_paused_tasks_hold_up_names_who_has_paused_the_first_of_them(house: House) -> None:
    puppet = Puppet(house, room={"*": 1})
    job_id = house.submit("many")
    puppet.room = {}
    puppet.finish(puppet.take(), items=urls(4))
    house.jobs.control.change_stage(Verb.PAUSE, job_id, 0, choice=Choice(spans=((2, 3),)), who=Who("r-1", "ada"))
    house.clock.pass_(7.0)
    puppet.room = {"*": 9}
    puppet.heartbeat()
    puppet.run_all()

    reason = why(house, job_id)

    assert reason.sentence == "2 tasks of stage 0 (Fetch) are paused, the first, task 2, by ada."
    assert reason.task is not None
    assert (reason.code, reason.by, reason.at, reason.task.index) == (
        Code.PAUSED,
        "ada",
        house.clock.seconds - 7.0,
        2,
    )
    assert why(house, job_id, 0) == reason


def test_a_job_whose_spawn_task_is_paused_names_who_has_paused_it(house: House) -> None:
    job_id = house.submit("many")
    house.jobs.control.change_task(Verb.PAUSE, house.tasks(job_id, 0)[0].task_id, who=Who(user="ada"))

    reason = why(house, job_id)

    assert (reason.sentence, reason.by) == ("The spawn task of stage 0 (Fetch) is paused by ada.", "ada")


def test_a_killed_task_waits_for_the_end_of_its_last_attempt_and_tells_a_time_to_come(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("retried")
    held = puppet.take()
    house.jobs.control.change_task(Verb.RETRY, held[1].task_id)
    house.clock.pass_(3.0)

    reason = why(house, job_id)

    assert (reason.code, reason.at) == (Code.RETRY_AT, house.clock.seconds - 3.0 + house.settings.lease)
    assert reason.sentence == "Task 0 waits until its worker tells that attempt 1 is gone, or its lease is over."
    assert why(house, job_id, 0) == why(house, job_id, 0, 0) == reason
    house.clock.pass_(house.settings.lease)
    assert why(house, job_id).code is Code.READY, "its time has come"
    assert why(house, job_id, 0, 0).code is not Code.RETRY_AT


def test_a_full_stage_and_full_workers_are_told(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", urls(5))
    puppet.take()

    assert why(house, job_id).sentence == (
        "As many tasks of stage 0 (Fetch) are at workers as may run at once: 2, of which 1 run."
    )
    puppet.take()
    assert why(house, job_id).sentence == "As many tasks of stage 0 (Fetch) run as may: 2/2."
    assert why(house, job_id, 0, 4).code is Code.MAX_PARALLEL


def test_busy_slots_are_told(house: House) -> None:
    puppet = Puppet(house, room={"default": 1})
    house.submit("one")
    card = WorkerCard("puppet", "host", 1, "test", {"default": 1})
    puppet.report(running=(ref(puppet.take()),), room={"default": 0}, card=card)
    job_id = house.submit("one")

    reason = why(house, job_id)

    assert reason.code is Code.ALL_SLOTS_BUSY
    assert reason.sentence == "All slots of the workers for the queue 'default' are busy: 1/1."


def serving(house: House, slots: dict[str, int], *types: str) -> Puppet:
    """Return a worker with these slots that runs a task of each of these types of jobs."""
    puppet = Puppet(house, room=slots)
    for type_ in types:
        house.submit(type_)
    puppet.listen()
    assert len(puppet.granted) == len(types)
    puppet.start(*puppet.granted)
    return puppet


def test_a_full_queue_is_told_although_its_workers_have_room_in_other_queues(house: House) -> None:
    serving(house, {"default": 4, "transcoding": 1}, "encoded")
    job_id = house.submit("encoded")

    reason = why(house, job_id)

    assert (reason.code, reason.running, reason.limit) == (Code.ALL_SLOTS_BUSY, 1, 1)
    assert reason.sentence == "All slots of the workers for the queue 'transcoding' are busy: 1/1."
    assert why(house, job_id, 0) == why(house, job_id, 0, 0) == reason


def test_a_slot_for_any_queue_is_busy_with_a_task_of_another_queue(house: House) -> None:
    serving(house, {"*": 1, "transcoding": 1}, "one", "encoded")

    both = [why(house, house.submit(type_)) for type_ in ("encoded", "one")]

    assert [(one.code, one.running, one.limit) for one in both] == [
        (Code.ALL_SLOTS_BUSY, 2, 2),
        (Code.ALL_SLOTS_BUSY, 1, 1),
    ]


def test_slots_of_a_queue_that_others_have_filled_elsewhere_are_free(house: House) -> None:
    puppet = serving(house, {"default": 2, "transcoding": 1, "*": 1}, "one", "one", "one")

    job_id, _ = house.jobs.submit_job(Submission("encoded", {}))

    assert why(house, house.submit("one")).code is Code.ALL_SLOTS_BUSY
    assert why(house, job_id).sentence == (
        "1 task of stage 0 (One) is with a worker, to start as soon as a slot is free there."
    )
    assert why(house, job_id, 0, 0).sentence == (
        "Task 0 is with the worker puppet, to start as soon as a slot is free there."
    )
    puppet.listen()
    assert len(puppet.granted) == 4
    puppet.start(puppet.granted[3])
    assert why(house, job_id).code is Code.RUNNING


def test_an_attempt_that_was_killed_keeps_its_slot_busy_until_it_is_gone(house: House) -> None:
    puppet = serving(house, {"default": 4, "transcoding": 1}, "encoded")
    job_id = house.submit("encoded")
    house.jobs.control.change_task(Verb.KILL, puppet.granted[0][1].task_id)

    dying = why(house, job_id)
    house.clock.pass_(house.settings.lease / 2)
    puppet.heartbeat()
    house.clock.pass_(house.settings.lease / 2 + 1)
    puppet.heartbeat()
    gone = why(house, job_id)

    assert (dying.code, dying.running, dying.limit) == (Code.ALL_SLOTS_BUSY, 1, 1)
    assert gone.code is not Code.ALL_SLOTS_BUSY


def test_a_wait_for_the_next_attempt_is_told_with_its_time(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("retried")
    puppet.finish(puppet.take(), Outcome.FAILED)

    reason = why(house, job_id)

    assert (reason.code, reason.at) == (Code.RETRY_AT, house.clock.seconds + 5.0)
    assert why(house, job_id, 0, 0) == reason


def test_a_blocked_stage_names_the_task_that_blocks_it(make: Make) -> None:
    house = make(BLOCKED)
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "blocked", urls(3))
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index == 1 else Outcome.COMPLETED)

    reason = why(house, job_id)

    assert reason.code is Code.BLOCKED_BY_FAILURE and reason.task is not None
    assert (reason.stage, reason.task.index) == (0, 1)
    assert reason.sentence == "Stage 0 (Fetch) waits for a person: task 1 is FAILED: it failed."
    assert "stage_blocked" in house.kinds(job_id)
    house.jobs.control.change_task(Verb.SKIP, reason.task.task_id)
    house.turn()
    puppet.run_all()
    assert why(house, job_id).sentence == "The job is COMPLETED."


def test_a_stage_whose_failures_are_retried_tells_of_them_no_more(make: Make) -> None:
    house = make(BLOCKED)
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "blocked", urls(3))
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index else Outcome.COMPLETED)

    first, second = (why(house, job_id, 0, index).task for index in (1, 2))
    assert first is not None and second is not None
    house.jobs.control.change_task(Verb.RETRY, first.task_id)
    assert house.view(job_id).stages[0].error == "task 1 (http://here/1): it failed"
    house.jobs.control.change_task(Verb.RETRY, second.task_id)

    assert house.view(job_id).stages[0].error is None


def test_stages_that_are_open_or_paused_by_their_definition(make: Make) -> None:
    house = make(BLOCKED)
    puppet = Puppet(house)
    job_id = house.submit("opened")
    house.jobs.control.add_tasks(job_id, 1, [{"url": "u"}])
    assert puppet.run_all() == 2

    assert why(house, job_id).sentence == "Stage 2 (Held) is paused by its definition."
    house.jobs.control.change_stage(Verb.RESUME, job_id, 2)
    house.turn()
    assert puppet.run_all() == 1
    assert why(house, job_id).code is Code.ENDED


def test_a_broker_that_is_away_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = house.submit("one")
    monkeypatch.setattr(type(house.broker), "connected", property(lambda _self: False))

    assert why(house, job_id).code is Code.BROKER_DOWN


def test_what_does_not_exist_is_not_found(house: House) -> None:
    job_id = house.submit("one")
    for place in ((JobId("x"), None, None), (job_id, 3, None), (job_id, 0, 9)):
        with pytest.raises(NotFound):
            why(house, *place)
