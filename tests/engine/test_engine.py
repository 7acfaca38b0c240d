"""The engine on a real store, turned by hand: what users are promised, one sentence a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.core.states import State
from controller.engine.requests import InvalidInputs, Submission
from shared.broker.port import Outgoing
from shared.errors import Conflict, NotFound
from shared.ids import JobId, new_worker_id
from shared.messages import REPORTS, Outcome, Report
from tests.engine.house import House, Puppet, ref

CATALOGUE = """
    tasks:
      step:
        exec_command: "true"
      flaky:
        exec_command: "false"
        retry: {limit: 2, delay: 5s, factor: 2, max_delay: 1m}
      list:
        exec_command: "true"
      fetch:
        input:
          url: {source: parameter}
          size: {source: parameter, type: integer, default: 1}
          token: {source: parameter, secret: true, default: none}
        exec_command: echo
        exec_args: ["--", "{url}", "{size}"]
      encode:
        exec_command: "true"
        queue: transcoding
    jobs:
      one: {stages: [{name: One, task_class: step}]}
      two: {stages: [{name: One, task_class: step}, {name: Two, task_class: step}]}
      retried: {stages: [{name: One, task_class: flaky}]}
      encoded: {stages: [{name: One, task_class: encode}]}
      many:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch}
        - {name: After, task_class: step}
      lenient:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch, job_failed_on_error: false, max_parallel: 2}
        - {name: After, task_class: step}
      hasty:
        stages: [{name: Fetch, spawn_task: list, task_class: fetch, fail_fast: true}]
      secret:
        input:
          url: {source: parameter}
          token: {source: http-header, key: Authorization}
        stages: [{name: Fetch, task_class: fetch}]
"""

Make = Callable[..., House]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    houses: list[House] = []

    def build(catalogue: str = CATALOGUE, **settings: object) -> House:
        folder = tmp_path / str(len(houses))
        folder.mkdir()
        houses.append(House(folder, catalogue, **settings))
        return houses[-1]

    yield build
    for house in houses:
        house.close()


@pytest.fixture
def house(make: Make) -> House:
    return make()


def urls(count: int) -> list[object]:
    return [{"url": f"http://here/{number}"} for number in range(count)]


def spawned(house: House, puppet: Puppet, type_: str, items: list[object]) -> JobId:
    job_id = house.submit(type_)
    puppet.finish(puppet.take(), items=items)
    return job_id


def test_a_job_runs_stage_after_stage_and_its_history_says_so(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("two")
    first = puppet.take()

    assert puppet.granted == []
    puppet.finish(first)
    assert [stage.state for stage in house.view(job_id).stages] == [State.COMPLETED, State.RUNNING]
    puppet.finish(puppet.take())

    view = house.view(job_id)
    assert (view.state, view.failed_tasks, view.error) == (State.COMPLETED, 0, None)
    assert house.kinds(job_id) == [
        "job_submitted",
        "job_started",
        "stage_started",
        "stage_completed",
        "stage_started",
        "stage_completed",
        "job_completed",
    ]


def test_all_stages_are_listed_from_the_first_moment_on(house: House) -> None:
    view = house.view(house.submit("many"))

    assert [(stage.name, stage.state, stage.spawn, stage.expected) for stage in view.stages] == [
        ("Fetch", State.RUNNING, State.QUEUED, None),
        ("After", State.PENDING, None, 1),
    ]


def test_a_spawn_task_fans_out_and_every_item_becomes_one_task(house: House) -> None:
    puppet = Puppet(house, room={"*": 5000})
    job_id = spawned(house, puppet, "many", urls(2500))
    house.turn(10)
    counted = puppet.run_all()

    tasks = house.tasks(job_id, 0)
    assert counted == 2501
    assert house.view(job_id).state is State.COMPLETED
    assert house.view(job_id).stages[0].tally.completed == 2500
    assert [task.index for task in tasks[:3]] == [-1, 0, 1]


def test_an_item_stands_over_the_jobs_value_and_a_default_fills_in(house: House) -> None:
    puppet = Puppet(house)
    spawned(house, puppet, "many", [{"url": "a", "size": 7}, {"url": "b"}])
    (grant, first), (_, second) = puppet.granted

    assert first.input == {"url": "a", "size": 7}
    assert grant.input | second.input == {"url": "b", "size": 1, "token": "none"}


def test_an_item_that_does_not_fit_is_a_failed_task_that_says_why_and_the_others_run(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", [{"url": "a"}, {"size": "many"}, {"url": "-rf"}, "text", {"urls": 1}])
    ran = puppet.run_all()

    tasks = house.tasks(job_id, 0)[1:]
    assert [task.state.value[0] for task in tasks] == ["C", "F", "F", "F", "F"]
    assert "url" in (tasks[1].error or "") and "size" in (tasks[1].error or "")
    assert "-" in (tasks[2].error or "")
    assert "must be an object" in (tasks[3].error or "")
    assert "urls" in (tasks[4].error or "")
    assert ran == 2
    assert (house.view(job_id).state, house.view(job_id).failed_tasks) == (State.COMPLETED, 4)


def test_an_empty_spawn_file_completes_the_stage(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", [])
    puppet.run_all()

    assert house.view(job_id).state is State.COMPLETED


def test_max_parallel_bounds_what_runs_at_once(house: House) -> None:
    puppet = Puppet(house)
    spawned(house, puppet, "lenient", urls(5))

    assert len(puppet.granted) == 2
    puppet.finish(puppet.take())
    assert len(puppet.granted) == 2


def test_a_failure_fails_the_job_when_its_running_siblings_are_done(house: House) -> None:
    puppet = Puppet(house, room={"*": 2})
    job_id = spawned(house, puppet, "many", urls(5))
    bad, good = puppet.take(), puppet.take()
    puppet.room = {"*": 0}
    puppet.finish(bad, Outcome.FAILED, exit_code=3, error="exit code 3")

    assert house.view(job_id).state is State.RUNNING
    puppet.finish(good)
    view = house.view(job_id)
    assert view.state is State.FAILED
    assert view.stages[0].tally.completed == 1 and view.stages[0].tally.cancelled == 3
    assert view.stages[1].state is State.CANCELLED
    assert "exit code 3" in (view.error or "")


def test_fail_fast_tells_the_workers_of_running_siblings_to_stop(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "hasty", urls(3))
    bad, *others = [puppet.take() for _ in range(3)]
    puppet.finish(bad, Outcome.FAILED)

    assert {(stop.task_id, stop.reason) for stop in puppet.stopped} == {
        (task.task_id, "fail_fast") for _, task in others
    }
    assert house.view(job_id).state is State.FAILED


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
        attempts = reader.attempts(house.tasks(job_id)[0].task_id)
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
    house.jobs.cancel(job_id)
    puppet.listen()
    puppet.stopped.clear()
    puppet.heartbeat((ref(held),))

    assert [stop.task_id for stop in puppet.stopped] == [held[1].task_id]


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
        assert [(one.queue, one.ready) for one in reader.queues()] == [("transcoding", 1)]
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


def test_cancel_is_final_and_stops_what_runs(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", urls(10))
    running = puppet.take()
    house.jobs.cancel(job_id)
    house.turn()
    puppet.finish(running)

    view = house.view(job_id)
    assert view.state is State.CANCELLED
    assert {task.state for task in house.tasks(job_id)} == {State.CANCELLED, State.COMPLETED}
    assert {stop.reason for stop in puppet.stopped} == {"cancelled"}
    house.jobs.cancel(job_id)
    assert house.view(job_id) == view


def test_an_ended_job_cannot_be_cancelled_and_an_open_one_neither_retried_nor_deleted(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    for forbidden in (lambda: house.jobs.retry(job_id, input={}, headers={}), lambda: house.jobs.delete(job_id)):
        with pytest.raises(Conflict):
            forbidden()
    puppet.run_all()
    with pytest.raises(Conflict):
        house.jobs.cancel(job_id)


def test_retry_runs_only_what_has_not_completed(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(4))
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index == 2 else Outcome.COMPLETED)
    assert house.view(job_id).state is State.FAILED
    house.jobs.retry(job_id, input={}, headers={})
    house.turn()
    again = puppet.take()

    assert (again[1].index, again[1].attempt) == (2, 2)
    puppet.finish(again)
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED
    assert "job_retried" in house.kinds(job_id)


def test_a_failed_spawn_task_runs_again_on_retry(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("many")
    puppet.finish(puppet.take(), Outcome.SPAWN_INVALID, error="spawn_invalid: item 3: not an object")
    assert house.view(job_id).state is State.FAILED
    house.jobs.retry(job_id, input={}, headers={})
    house.turn()
    puppet.finish(puppet.take(), items=urls(1))
    puppet.run_all()

    assert house.view(job_id).state is State.COMPLETED


def test_a_secret_is_sealed_on_its_way_masked_for_everybody_and_gone_at_the_end(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("secret", {"authorization": ["S3CR3T-canary"]}, url="u")
    held = puppet.take()
    assert set(held[0].sealed) == {"token"} and "canary" not in str(held)
    assert house.jobs.masked_input(house.view(job_id)) == {"url": "u", "token": "********"}
    puppet.finish(held, Outcome.FAILED)

    with house.store.read() as reader:
        facts = reader.facts(job_id)
    assert facts is not None and facts.sealed == {}
    written = b"".join(file.read_bytes() for file in house.settings.volume.rglob("*") if file.is_file())
    assert b"S3CR3T-canary" not in written


def test_retry_asks_for_an_erased_secret_again(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("secret", {"Authorization": ["first"]}, url="u")
    puppet.finish(puppet.take(), Outcome.FAILED)
    with pytest.raises(InvalidInputs, match="Authorization"):
        house.jobs.retry(job_id, input={}, headers={})
    house.jobs.retry(job_id, input={}, headers={"Authorization": ["second"]})
    house.turn()
    grant, _ = puppet.take()

    assert (set(grant.sealed), grant.input["url"]) == ({"token"}, "u")


def test_one_idempotency_key_makes_one_job(house: House) -> None:
    first = house.jobs.submit(Submission("one", {}, idempotency_key="k"))
    again = house.jobs.submit(Submission("one", {}, idempotency_key="k"))

    assert (first[1], again) == (True, (first[0], False))
    with pytest.raises(Conflict):
        house.jobs.submit(Submission("two", {}, idempotency_key="k"))


@pytest.mark.parametrize(
    ("values", "headers", "pointer"),
    [
        ({}, {"Authorization": ["x"]}, "#/input/url"),
        ({"url": "u"}, {}, "#/headers/Authorization"),
        ({"url": "u"}, {"Authorization": ["x", "y"]}, "#/headers/Authorization"),
        ({"url": "u", "ulr": 1}, {"Authorization": ["x"]}, "#/input/ulr"),
        ({"url": "u", "token": "x"}, {"Authorization": ["x"]}, "#/input/token"),
        ({"url": "u\0"}, {"Authorization": ["x"]}, "#/input/url"),
        ({"url": "\ud800"}, {"Authorization": ["x"]}, "#/input/url"),
        ({"url": "x" * 200_000}, {"Authorization": ["x"]}, "#/input/url"),
    ],
)
def test_a_mistake_in_the_inputs_is_named_with_its_place(
    house: House, values: dict[str, object], headers: dict[str, list[str]], pointer: str
) -> None:
    with pytest.raises(InvalidInputs) as caught:
        house.jobs.submit(Submission("secret", values, headers))  # type: ignore[arg-type]

    assert [mistake.pointer for mistake in caught.value.mistakes] == [pointer]


def test_an_unknown_type_is_not_found_and_the_known_ones_are_named(house: House) -> None:
    with pytest.raises(NotFound, match="lenient"):
        house.jobs.submit(Submission("lenent", {}))


def test_a_deleted_job_is_gone_with_its_folder(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", [])
    puppet.run_all()
    folder = house.settings.volume / "jobs" / job_id
    assert folder.is_dir()
    house.jobs.delete(job_id)

    assert not folder.exists()
    with house.store.read() as reader:
        assert reader.job(job_id) is None


def test_after_a_restart_every_accepted_job_goes_on(make: Make, tmp_path: Path) -> None:
    house = make()
    job_id = house.submit("two")
    puppet = Puppet(house)
    puppet.finish(puppet.take())
    house.close()
    folder = tmp_path / "0"
    again = House(folder, CATALOGUE)
    try:
        other = Puppet(again, name="other")
        other.heartbeat(buried=(puppet.worker,))
        other.run_all()
        assert again.view(job_id).state is State.COMPLETED
    finally:
        again.close()
