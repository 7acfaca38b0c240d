"""Live control as people use it: on a real store, with a worker that does what the test says."""

from __future__ import annotations

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Changed, Choice, UnchangedGroup, Who, index_spans
from echelon.shared.errors import InvalidInput, PreconditionFailed
from echelon.shared.ids import JobId
from echelon.shared.messages import AttemptRef, Outcome
from echelon.shared.volume.stops import StopFiles
from tests.engine.house import House, Make, Puppet, ref
from tests.engine.jobs import CATALOGUE, spawned, urls

ME = Who("r-1")


def states(house: House, job_id: JobId, stage: int = 0) -> list[State]:
    return [task.state for task in house.tasks(job_id, stage) if task.index >= 0]


def failed_one_of_four(house: House, puppet: Puppet) -> JobId:
    job_id = spawned(house, puppet, "many", urls(4))
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index == 2 else Outcome.COMPLETED)
    assert house.view(job_id).state is State.FAILED
    return job_id


def test_a_paused_job_gives_nothing_out_and_what_runs_goes_on(house: House) -> None:
    job_id = house.submit("two")
    puppet = Puppet(house)
    running = puppet.take()
    house.jobs.control.change_job(Verb.PAUSE, job_id, who=ME)
    puppet.finish(running)
    puppet.heartbeat()
    assert puppet.granted == []
    view = house.view(job_id)
    assert (view.state, view.by, view.paused_at) == (State.RUNNING, "request r-1", house.clock.seconds)

    assert house.jobs.control.change_job(Verb.RESUME, job_id, who=ME) == Changed(jobs=1)
    house.turn()
    puppet.run_all()

    assert house.view(job_id).state is State.COMPLETED
    assert [kind for kind in house.kinds(job_id) if kind.startswith("job_")] == [
        "job_submitted", "job_started", "job_paused", "job_resumed", "job_completed",
    ]  # fmt: skip


def test_a_pause_survives_a_restart(make: Make, tmp_path: object) -> None:
    house = make()
    job_id = house.submit("two")
    house.jobs.control.change_stage(Verb.PAUSE, job_id, 0, who=ME)
    house.close()
    again = House(house.settings.volume.parent, CATALOGUE)
    try:
        puppet = Puppet(again)
        assert puppet.granted == []
        again.jobs.control.change_stage(Verb.RESUME, job_id, 0)
        again.turn()
        assert puppet.run_all() == 2
    finally:
        again.close()


def test_a_paused_task_waits_and_its_siblings_run_and_its_stage_stays_open(house: House) -> None:
    puppet = Puppet(house, room={})
    job_id = house.submit("many")
    puppet.room = {"*": 10}
    puppet.heartbeat()
    puppet.room = {}
    puppet.finish(puppet.take(), items=urls(3))
    task = house.tasks(job_id, 0)[2]
    assert house.jobs.control.change_task(Verb.PAUSE, task.task_id, who=ME) == Changed(tasks=1)
    puppet.room = {"*": 10}
    puppet.heartbeat()
    puppet.run_all()
    assert states(house, job_id) == [State.COMPLETED, State.PENDING, State.COMPLETED]
    assert house.view(job_id).stages[0].state is State.RUNNING

    house.jobs.control.change_task(Verb.RESUME, task.task_id)
    house.turn()
    puppet.run_all()

    assert house.view(job_id).state is State.COMPLETED


def test_a_paused_task_that_runs_is_not_started_again(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("retried")
    held = puppet.take()
    house.jobs.control.change_task(Verb.PAUSE, held[1].task_id)
    puppet.finish(held, Outcome.FAILED)
    house.clock.pass_(60.0)
    puppet.heartbeat()
    assert puppet.granted == []

    house.jobs.control.change_task(Verb.RESUME, held[1].task_id)
    house.turn()

    assert puppet.take()[1].attempt == 2
    assert house.view(job_id).state is State.RUNNING


def test_an_interrupted_task_that_is_paused_stays_where_it_is(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    house.jobs.control.change_task(Verb.PAUSE, held[1].task_id)
    puppet.heartbeat(released=(ref(held),))

    assert states(house, job_id) == [State.PENDING]
    assert puppet.granted == []
    house.jobs.control.change_task(Verb.RESUME, held[1].task_id)
    house.turn()
    assert puppet.take()[1].attempt == 2


def test_kill_is_a_failed_attempt_and_the_next_one_waits_for_the_end_of_its_processes(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("retried")
    held = puppet.take()
    assert house.jobs.control.change_task(Verb.KILL, held[1].task_id, who=ME) == Changed(tasks=1)
    puppet.listen()
    assert [(stop.task_id, stop.attempt, stop.reason) for stop in puppet.stopped] == [(held[1].task_id, 1, "killed")]
    house.clock.pass_(5.0)
    puppet.heartbeat(running=(ref(held),))
    assert puppet.stopped[-1].reason == "claim_lost", "a lost message is made good by the refused renewal"
    assert puppet.granted == [], "its processes may be there still"

    puppet.finish(held, Outcome.STOPPED)

    with house.store.read() as reader:
        (attempt,) = reader.list_attempts(held[1].task_id)
    assert (attempt.outcome, attempt.error) == (Outcome.KILLED, "killed by request r-1")
    assert puppet.take()[1].attempt == 2
    assert "tasks_killed" in house.kinds(job_id)


def test_the_next_attempt_of_a_killed_task_starts_at_the_latest_when_the_lease_is_over(house: House) -> None:
    puppet = Puppet(house)
    house.submit("retried")
    held = puppet.take()
    house.jobs.control.change_task(Verb.KILL, held[1].task_id)
    house.clock.pass_(house.settings.lease - 1.0)
    puppet.heartbeat()
    assert puppet.granted == []

    house.clock.pass_(2.0)
    puppet.heartbeat()

    assert puppet.take()[1].attempt == 2


def test_kill_without_retries_left_fails_the_job(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    assert house.jobs.control.change_job(Verb.KILL, job_id) == Changed(tasks=1)

    assert house.view(job_id).state is State.FAILED


def test_one_failed_task_is_repeated_and_the_others_are_kept(house: House) -> None:
    puppet = Puppet(house)
    job_id = failed_one_of_four(house, puppet)
    failed = house.tasks(job_id, 0)[3]
    assert house.jobs.control.change_task(Verb.RETRY, failed.task_id, who=ME) == Changed(tasks=1)
    house.turn()
    ran = []
    puppet.run_all(lambda _grant, task: ran.append((task.index, task.attempt)) or Outcome.COMPLETED)  # type: ignore[func-returns-value]

    assert ran == [(2, 2), (0, 1)]
    assert house.view(job_id).state is State.COMPLETED
    with house.store.read() as reader:
        assert [one.outcome for one in reader.list_attempts(failed.task_id)] == [Outcome.FAILED, Outcome.COMPLETED]
    kinds = house.kinds(job_id)
    assert kinds[kinds.index("job_reopened") :][:3] == ["job_reopened", "stage_reopened", "tasks_retried"]


def test_retry_of_all_runs_completed_tasks_too_and_their_first_attempts_stay_readable(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", urls(3))
    puppet.run_all()
    assert house.jobs.control.change_stage(Verb.RETRY, job_id, 0) == Changed(
        unchanged=(UnchangedGroup("nothing of it has failed or was cancelled", 1),)
    )

    changed = house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(only_failed=False))
    house.turn()
    puppet.run_all()

    assert changed == Changed(tasks=3, stages=1, stale=1)
    assert house.view(job_id).state is State.COMPLETED
    with house.store.read() as reader:
        attempts = reader.list_attempts(house.tasks(job_id, 0)[1].task_id)
    assert [(one.attempt, one.outcome) for one in attempts] == [(1, Outcome.COMPLETED), (2, Outcome.COMPLETED)]


def test_retry_of_a_running_task_kills_it_first_and_asks_no_limit(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    assert house.jobs.control.change_task(Verb.RETRY, held[1].task_id) == Changed(tasks=1)
    puppet.listen()
    assert len(puppet.stopped) == 1
    puppet.finish(held, Outcome.STOPPED)

    again = puppet.take()
    assert again[1].attempt == 2
    puppet.finish(again)
    assert house.view(job_id).state is State.COMPLETED


def test_a_task_that_was_cancelled_and_is_retried_waits_for_the_end_of_its_processes(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    held = puppet.take()
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    house.jobs.control.change_job(Verb.RETRY, job_id)
    puppet.heartbeat()
    assert puppet.granted == []

    puppet.finish(held, Outcome.STOPPED)

    assert puppet.take()[1].attempt == 2


def test_skipping_the_failed_task_lets_the_job_go_on(house: House) -> None:
    puppet = Puppet(house)
    job_id = failed_one_of_four(house, puppet)
    failed = house.tasks(job_id, 0)[3]
    assert house.jobs.control.change_task(Verb.SKIP, failed.task_id, who=ME) == Changed(tasks=1)
    house.turn()
    puppet.run_all()

    view = house.view(job_id)
    assert (view.state, view.failed_tasks) == (State.COMPLETED, 0)
    assert house.tasks(job_id, 0)[3].by == "request r-1"


def test_a_skipped_stage_stops_what_runs_and_the_next_one_begins(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(3))
    puppet.listen()
    changed = house.jobs.control.change_stage(Verb.SKIP, job_id, 0, who=ME)
    puppet.listen()

    assert changed == Changed(tasks=3, stages=1)
    assert {stop.reason for stop in puppet.stopped} == {"skipped"} and len(puppet.stopped) == 3
    assert [stage.state for stage in house.view(job_id).stages] == [State.SKIPPED, State.RUNNING]


def test_tasks_are_chosen_by_state_and_index(house: House) -> None:
    puppet = Puppet(house, room={"default": 1})
    job_id = house.submit("many")
    puppet.room = {}
    puppet.finish(puppet.take(), items=urls(10))

    choice = Choice(spans=index_spans("7-8,2, 0-3"))
    assert house.jobs.control.change_stage(Verb.CANCEL, job_id, 0, choice=choice, who=ME).tasks == 6
    assert house.jobs.control.change_job(Verb.SKIP, job_id, choice=Choice(state=State.CANCELLED)).tasks == 6
    left = house.jobs.control.change_stage(Verb.SKIP, job_id, 0, choice=Choice(spans=((3, 4),)))

    assert left == Changed(tasks=1, unchanged=(UnchangedGroup("it is SKIPPED already", 1, State.SKIPPED),))
    assert [state is State.SKIPPED for state in states(house, job_id)] == [
        index in (0, 1, 2, 3, 4, 7, 8) for index in range(10)
    ]


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-2-3", "-1", "1,,2", "999999999", ",".join(["1"] * 1001)])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        index_spans(text)


def test_of_two_people_at_once_one_wins_and_the_other_changes_nothing(house: House) -> None:
    job_id = house.submit("one")
    view, task = house.view(job_id), house.tasks(job_id)[0]
    control = house.jobs.control
    control.change_task(Verb.PAUSE, task.task_id, etag=task.etag)
    before = house.view(job_id)

    with pytest.raises(PreconditionFailed):
        control.change_task(Verb.CANCEL, task.task_id, etag=task.etag)
    with pytest.raises(PreconditionFailed):
        control.change_stage(Verb.CANCEL, job_id, 0, etag=view.stages[0].etag)
    with pytest.raises(PreconditionFailed):
        control.change_job(Verb.CANCEL, job_id, etag=view.etag)

    assert house.view(job_id) == before
    control.change_job(Verb.PAUSE, job_id, etag=before.etag)
    with pytest.raises(PreconditionFailed):
        control.change_job(Verb.RESUME, job_id, etag=before.etag)


def test_a_list_of_tasks_is_retried_and_what_has_changed_since_is_told(house: House) -> None:
    puppet = Puppet(house)
    first, second = (failed_one_of_four(house, puppet) for _ in range(2))
    one, two = (house.tasks(job_id, 0) for job_id in (first, second))
    wanted = {one[3].task_id: one[3].etag, two[3].task_id: two[3].etag - 1, two[1].task_id: None}
    changed = house.jobs.control.retry_tasks({**wanted, first: None}, who=ME).changed  # type: ignore[dict-item]

    assert changed.tasks == 1
    assert {left.reason.split(";")[0] for left in changed.unchanged} == {
        "there is no such task",
        "it has changed since it was read",
        "it is COMPLETED already",
    }
    assert [house.view(job_id).state for job_id in (first, second)] == [State.RUNNING, State.FAILED]


def test_a_cancelled_task_is_stopped_and_its_siblings_go_on(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", urls(2))
    held = puppet.take()
    house.jobs.control.change_task(Verb.CANCEL, held[1].task_id, who=ME)
    puppet.listen()
    assert [AttemptRef(stop.task_id, stop.attempt) for stop in puppet.stopped] == [ref(held)]
    puppet.finish(held)
    puppet.run_all()

    assert states(house, job_id) == [State.CANCELLED, State.COMPLETED]
    assert house.view(job_id).state is State.COMPLETED


def test_what_is_ended_while_the_broker_is_away_is_told_on_the_volume(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    house.submit("one")
    held = puppet.take()
    signs = StopFiles(house.volume)
    house.jobs.control.change_task(Verb.PAUSE, held[1].task_id)
    assert not signs.is_stopped(ref(held))
    monkeypatch.setattr(type(house.broker), "connected", property(lambda _self: False))

    house.jobs.control.change_task(Verb.CANCEL, held[1].task_id)

    assert signs.is_stopped(ref(held))
