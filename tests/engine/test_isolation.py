"""A task whose next lost worker would be its last runs alone: a poison task takes no neighbour along."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.records import TaskView
from echelon.controller.engine.base.requests import Choice
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.errors import VolumeUnavailable
from echelon.shared.ids import JobId
from echelon.shared.messages import ANY_QUEUE, Grant, GrantedTask, Outcome
from tests.engine.house import House, Make, Puppet, ended, ref

CATALOGUE = """
    tasks:
      list: {exec_command: "true"}
      step: {input: {poison: {source: parameter, type: boolean}}, exec_command: "true"}
      other: {exec_command: "true"}
      side: {exec_command: "true", queue: side}
    jobs:
      many: {stages: [{name: Many, spawn_task: list, task_class: step, job_failed_on_error: false}]}
      listed: {stages: [{name: Many, spawn_task: list, task_class: step}]}
      other: {stages: [{name: Other, task_class: other}]}
      side: {stages: [{name: Side, task_class: side}]}
"""
PRIVATE = """
    tasks:
      make: {exec_command: "true", workdir: task}
      list: {exec_command: "true"}
      step: {exec_command: "true"}
    jobs:
      made: {stages: [{name: Make, task_class: make}, {name: Steps, spawn_task: list, task_class: step}]}
"""
MAX_LOSSES = 3

Held = tuple[Grant, GrantedTask]


@pytest.fixture
def house(make: Make) -> House:
    return make(CATALOGUE)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[House, House]]:
    broker = MemoryBroker()
    houses = House(tmp_path, CATALOGUE, broker=broker), House(tmp_path, CATALOGUE, broker=broker)
    yield houses
    for house in houses:
        house.close()


def is_poison(held: Held) -> bool:
    return bool(held[1].input.get("poison"))


class Host:
    """A host on which a worker with many slots is started again whenever it dies, as it does of every poison task."""

    def __init__(self, house: House, *, deadly: Callable[[Held], bool] = is_poison, slots: int = 8) -> None:
        self.house = house
        self.deadly = deadly
        self.room = {ANY_QUEUE: slots}
        self.worker = Puppet(house, room=self.room)
        self.starts: Counter[str] = Counter()

    def die(self) -> None:
        """Die of something, and come back as another life."""
        dead = self.worker
        self.worker = Puppet(self.house, room={})
        self.worker.room = self.room
        self.worker.heartbeat(buried=(dead.worker,))

    def step(self) -> bool:
        """Start what was granted, die if one of it is deadly, else end the first; return whether there was any."""
        self.worker.listen()
        held = self.worker.granted
        self.starts.update(task.task_id for _, task in held)
        if any(self.deadly(one) for one in held):
            self.die()
        elif held:
            first = held.pop(0)
            self.starts.subtract(task.task_id for _, task in held)
            self.worker.finish(first)
        return bool(held)

    def live(self, job_id: JobId) -> None:
        """Go on until a job has ended."""
        for _ in range(200):
            if not self.step():
                self.worker.heartbeat()
            if ended(self.house, job_id):
                return
        raise AssertionError(f"the job goes on: {[(one.index, one.state) for one in self.house.tasks(job_id)]}")


def spawned(host: Host, type_: str, poison: list[bool]) -> JobId:
    """Submit a job with so many tasks, some of them poison."""
    job_id = host.house.submit(type_)
    host.worker.finish(host.worker.take(), items=[{"poison": one} for one in poison])
    return job_id


def tasks(house: House, job_id: JobId) -> list[TaskView]:
    return [task for task in house.tasks(job_id) if task.index >= 0]


def test_a_poison_task_fails_after_its_last_loss_and_all_of_its_neighbours_complete(house: House) -> None:
    host = Host(house)
    job_id = spawned(host, "many", [False, True, False, False, False, False])
    host.live(job_id)

    states = {task.index: task.state for task in tasks(house, job_id)}
    poison = tasks(house, job_id)[1]
    assert states == {index: State.FAILED if index == 1 else State.COMPLETED for index in range(6)}
    assert "worker_lost" in (poison.error or "")
    assert host.starts[poison.task_id] == MAX_LOSSES


def test_of_two_poison_tasks_each_fails_by_its_own_and_nobody_else(house: House) -> None:
    host = Host(house)
    job_id = spawned(host, "many", [True, False, True, False, False])
    host.live(job_id)

    assert [task.state is State.FAILED for task in tasks(house, job_id)] == [True, False, True, False, False]
    assert [host.starts[task.task_id] for task in tasks(house, job_id) if task.state is State.FAILED] == [3, 3]


def test_a_spawn_task_under_suspicion_runs_alone(house: House) -> None:
    bystanders = [house.submit("other") for _ in range(3)]
    job_id = house.submit("listed")
    host = Host(house, deadly=lambda held: held[0].recipe.task_class == "list")
    host.live(job_id)
    for bystander in bystanders:
        host.live(bystander)

    assert house.view(job_id).state is State.FAILED
    assert [house.view(bystander).state for bystander in bystanders] == [State.COMPLETED] * 3


def test_two_controllers_keep_to_the_same_reservation(pair: tuple[House, House]) -> None:
    host = Host(pair[0])
    job_id = spawned(host, "many", [False, True, False, False, True, False])
    for house in itertools.islice(itertools.cycle(pair), 100):
        host.worker.house = house
        host.step() or host.worker.heartbeat()

    assert ended(pair[0], job_id)
    assert [task.state is State.FAILED for task in tasks(pair[0], job_id)] == [False, True, False, False, True, False]


@pytest.fixture
def kept(house: House) -> tuple[Puppet, JobId]:
    """Give a worker that is kept for two suspects and still runs a task of its side queue, and the suspects' job."""
    host = Host(house, slots=2)
    job_id = spawned(host, "many", [False, False])
    host.die()
    host.room = {}
    host.die()
    worker = Puppet(house, name="kept", room={"side": 1, "default": 0})
    house.submit("side")
    worker.listen()
    worker.room = {"side": 1, "default": 2}
    worker.heartbeat((ref(worker.granted[0]),))
    return worker, job_id


def test_a_suspect_waits_until_its_worker_holds_nothing_and_nothing_joins_it(
    house: House, kept: tuple[Puppet, JobId]
) -> None:
    worker, job_id = kept
    side = house.submit("side")
    worker.listen()
    assert len(worker.granted) == 1

    worker.finish(worker.take())
    for _ in range(2):
        worker.listen()
        (suspect,) = worker.granted
        assert suspect[0].job_id == job_id
        worker.finish(worker.take())
    worker.listen()

    assert house.view(job_id).state is State.COMPLETED
    assert [held[0].job_id for held in worker.granted] == [side]


def test_the_worker_of_suspects_is_free_again_when_their_job_is_cancelled(
    house: House, kept: tuple[Puppet, JobId]
) -> None:
    worker, job_id = kept
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    job_ids = {house.submit("side"), house.submit("other")}
    worker.heartbeat()

    assert {held[0].job_id for held in worker.granted[1:]} == job_ids


def test_the_worker_of_suspects_is_free_again_when_their_job_is_deleted(
    house: House, kept: tuple[Puppet, JobId]
) -> None:
    worker, job_id = kept
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    house.jobs.delete_job(job_id)
    side = house.submit("side")
    worker.heartbeat()

    assert [held[0].job_id for held in worker.granted[1:]] == [side]


def test_suspects_run_elsewhere_when_the_worker_that_was_kept_for_them_leaves(
    house: House, kept: tuple[Puppet, JobId]
) -> None:
    worker, job_id = kept
    worker.report(goodbye=True, room={})
    other = Puppet(house, name="other", room={"default": 2})
    assert len(other.granted) == 1
    other.run_all()

    assert house.view(job_id).state is State.COMPLETED


def test_a_worker_that_is_kept_does_not_keep_others_from_working(house: House, kept: tuple[Puppet, JobId]) -> None:
    other = Puppet(house, name="other", room={ANY_QUEUE: 2})
    job_ids = {house.submit("side"), house.submit("other")}
    other.listen()

    assert {held[0].job_id for held in other.granted} == job_ids


def test_the_next_suspect_waits_until_one_that_was_killed_is_gone(house: House, kept: tuple[Puppet, JobId]) -> None:
    worker, job_id = kept
    worker.finish(worker.take())
    killed = worker.take()
    worker.room = {"side": 1, "default": 1}
    house.jobs.control.change_task(Verb.KILL, killed[1].task_id)
    worker.heartbeat()
    assert worker.granted == []
    side = house.submit("side")
    worker.heartbeat()
    assert worker.granted == [], "a suspect that dies is no neighbour for others either"

    worker.finish(killed, Outcome.STOPPED)

    assert [one[0].job_id for one in worker.granted] == [job_id]
    worker.finish(worker.take())
    assert [one[0].job_id for one in worker.granted] == [side]


def test_suspects_wait_for_the_files_of_a_stage_that_was_repeated_in_front_of_them(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make(PRIVATE)
    host = Host(house, deadly=lambda held: held[0].recipe.task_class == "step")
    job_id = house.submit("made")
    host.worker.finish(host.worker.take())
    host.worker.finish(host.worker.take(), items=[{}, {}])
    for _ in range(2):
        host.step()
    (suspect,) = host.worker.granted
    house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(only_failed=False))
    other = Puppet(house, name="other", room={"default": 1})
    other.room = {}
    with monkeypatch.context() as patch:
        patch.setattr(type(house.volume), "publish_files", away)
        other.finish(other.take())
        host.worker.granted.clear()
        host.worker.finish(suspect)
        assert [stage.state for stage in house.view(job_id).stages] == [State.COMPLETED, State.RUNNING]
        assert host.worker.granted == []

    house.clock.pass_(2.0)
    host.worker.heartbeat()

    assert [held[0].stage for held in host.worker.granted] == [1]


def away(*_: object) -> None:
    raise VolumeUnavailable("away")
