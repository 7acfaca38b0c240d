"""Files of a task with a folder of its own are seen when, and only when, its attempt counts, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from echelon.controller.core.states import State
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.base.requests import Composition
from echelon.controller.engine.why.explanations import Code
from echelon.shared import failpoints
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Outgoing
from echelon.shared.errors import StoreUnavailable, VolumeUnavailable
from echelon.shared.failpoints import VARIABLE, FailpointReached, arm_failpoints
from echelon.shared.messages import REPORTS, Finished, Outcome, Report
from echelon.shared.volume import Volume
from tests.engine.house import House, Puppet
from tests.engine.private_files import CATALOGUE, Held, began, leave, seen

#: Begins a controller in the place of the one before, which has died.
Begin = Callable[[], House]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Give a builder of controllers on one store, one volume and one broker; each ends the one before."""
    monkeypatch.setattr(failpoints, "_armed", None)
    made: list[House] = []
    broker = MemoryBroker()

    def build() -> House:
        if made:
            made[-1].controller.engine.close()
        made.append(House(tmp_path, CATALOGUE, broker=broker))
        return made[-1]

    yield build
    for house in made:
        house.close()


@pytest.fixture
def house(begin: Begin) -> House:
    return begin()


class RefusedCommits:
    """A store that takes back all that is written."""

    def __init__(self, store: Datastore) -> None:
        self._store = store

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._store.write() as tx:
            yield tx
            raise StoreUnavailable("refused")


def dies_at(point: str, puppet: Puppet, held: Held) -> None:
    """Let a controller settle an attempt, and fail at a step after that."""
    arm_failpoints({VARIABLE: f"{point}:raise"})
    with pytest.raises(FailpointReached):
        puppet.finish(held)


def test_the_next_stage_is_granted_when_the_files_are_there(house: House) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1")
    grant, task = held
    puppet.number += 1
    finished = Finished(job_id, task.task_id, task.attempt, Outcome.COMPLETED)
    house.broker.publish([Outgoing(REPORTS, Report(puppet.worker, puppet.number, finished=(finished,), room={"*": 9}))])
    granted_with = []
    for _ in range(4):
        house.turn(1)
        puppet.listen()
        granted_with += [seen(house, job_id)] * len(puppet.granted)

    assert granted_with[0] == {"made": "1"}
    assert grant.stage == 0 and puppet.granted[0][0].stage == 1


def test_why_tells_of_the_files_that_a_stage_waits_for(house: House, begin: Begin) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1")
    dies_at("files.before_publish", puppet, held)

    reasons = begin().jobs.reasons

    reason = reasons.find_reason(job_id)
    assert (reason.code, reason.stage) == (Code.WAITING_FILES, 1)
    assert reason.sentence == (
        "Stage 1 (Use) waits for files: those of task 0 of stage 0 (Make) are on their way to the job's workspace."
    )
    assert reasons.find_reason(job_id, 1) == reasons.find_reason(job_id, 1, 0) == reason


def test_why_tells_of_the_files_that_the_items_of_a_spawn_task_may_want(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> tuple[str, ...]:
        raise VolumeUnavailable("the volume is away")

    puppet = Puppet(house)
    job_id, held = began(house, puppet, "many", made="1")
    monkeypatch.setattr(Volume, "publish_files", away)
    puppet.finish(held, items=[{}])

    reason = house.jobs.reasons.find_reason(job_id, 0, 0)

    assert reason.code is Code.WAITING_FILES and "the spawn task of stage 0 (Make)" in reason.sentence
    monkeypatch.undo()
    house.clock.pass_(60.0)
    house.turn()
    assert house.jobs.reasons.find_reason(job_id, 0, 0).code is not Code.WAITING_FILES


def test_a_composed_jobs_next_stage_waits_for_the_files_of_a_private_task_behind_a_plain_one(
    house: House, begin: Begin
) -> None:
    puppet = Puppet(house)
    stages = [
        {"name": "Both", "tasks": [{"task_class": "step"}, {"task_class": "make"}]},
        {"name": "Use", "tasks": [{"task_class": "step"}]},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("mine", stages))
    house.turn()
    puppet.listen()
    plain, private = puppet.take(), puppet.take()
    leave(house, private, made="1")
    puppet.finish(plain)
    dies_at("files.before_publish", puppet, private)
    puppet.house = begin()

    puppet.house.turn(1)
    puppet.listen()
    early = list(puppet.granted)
    puppet.house.turn(2)
    puppet.listen()

    assert early == [], "it begins before the files are there"
    assert [grant.stage for grant, _ in puppet.granted] == [1]
    assert seen(house, job_id) == {"made": "1"}


def test_a_stage_waits_for_the_files_of_its_own_spawn_task(house: House) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "many", list="a b")
    puppet.finish(held, items=[{}, {}])

    assert [task.attempt for _, task in puppet.granted] == [1, 1]
    assert seen(house, job_id) == {"list": "a b"}


def test_nothing_is_seen_of_an_attempt_whose_commit_was_refused(house: House) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "one", made="1")
    engine = house.controller.engine
    parts = engine._parts
    engine._parts = replace(parts, store=RefusedCommits(house.store))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        puppet.finish(held)
    house.jobs.show_files(job_id)
    assert seen(house, job_id) == {}

    engine._parts = parts
    house.turn()
    assert seen(house, job_id) == {"made": "1"}


def test_nothing_is_ever_seen_of_an_attempt_whose_result_was_lost(house: House) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "one", made="by the first")
    engine = house.controller.engine
    parts = engine._parts
    engine._parts = replace(parts, store=RefusedCommits(house.store))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        puppet.finish(held)
    house.broker.subscribe([REPORTS], prefetch=9).ack(engine._subscription.take_deliveries(limit=9, timeout=0.0))
    engine._parts = parts
    while not puppet.granted:
        house.clock.pass_(1.0)
        puppet.heartbeat()
    again = puppet.take()
    assert again[1].attempt == 2
    puppet.finish(again, Outcome.FAILED)

    assert house.view(job_id).state is State.FAILED
    house.jobs.show_files(job_id)
    assert seen(house, job_id) == {}


@pytest.mark.parametrize("point", ["settle.after_commit", "files.before_publish", "files.after_publish"])
def test_the_next_controller_publishes_what_one_that_died_has_counted_before_it_grants(
    house: House, begin: Begin, point: str
) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1")
    dies_at(point, puppet, held)
    puppet.house = begin()

    puppet.house.turn(1)
    puppet.listen()
    assert [task.state for task in house.tasks(job_id)] == [State.COMPLETED, State.QUEUED]
    assert puppet.granted == []
    puppet.house.turn(2)
    puppet.listen()

    assert [grant.stage for grant, _ in puppet.granted] == [1]
    assert seen(house, job_id) == {"made": "1"}


def test_the_artefacts_of_a_task_that_is_completed_are_there_for_whoever_asks(house: House, begin: Begin) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "one", made="1")
    dies_at("files.before_publish", puppet, held)
    other = begin()

    assert other.view(job_id).state is State.COMPLETED
    assert seen(other, job_id) == {}
    other.jobs.show_files(job_id)
    assert seen(other, job_id) == {"made": "1"}


def test_what_was_published_before_a_death_is_not_published_again(house: House, begin: Begin) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "one", made="1")
    dies_at("files.after_publish", puppet, held)
    Path(house.volume.root, "jobs", job_id, "work", "made").write_text("changed since")

    begin().turn()

    assert seen(house, job_id) == {"made": "changed since"}


def test_a_file_that_cannot_be_published_is_told_once(house: House) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1", name="a file")
    Path(house.volume.root, "jobs", job_id, "work", "name").mkdir()
    puppet.finish(held)
    house.jobs.show_files(job_id)
    house.clock.pass_(1.5)
    house.turn()

    assert house.kinds(job_id).count("file_not_published") == 1
    assert seen(house, job_id) == {"made": "1"}
    assert [grant.stage for grant, _ in puppet.granted] == [1]


@pytest.mark.parametrize("job", ["one", "two"])
def test_a_job_that_completes_without_files_of_its_tasks_says_so(
    house: House, job: str, caplog: pytest.LogCaptureFixture
) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, job, made="1", name="a file")
    Path(house.volume.root, "jobs", job_id, "work", "name").mkdir()
    puppet.finish(held)
    ended_at = house.view(job_id).ended_at
    house.clock.pass_(5.0)
    house.turn()
    if job == "two":
        puppet.finish(puppet.take())

    view = house.view(job_id)
    assert view.state is State.COMPLETED
    assert view.error is not None and view.error.endswith(f"name; they are in jobs/{job_id}/attempts/0/0-1/work")
    assert job == "two" or view.ended_at == ended_at
    assert view.error in house.jobs.reasons.find_reason(job_id).sentence
    assert any(record.levelname == "WARNING" and view.error in record.message for record in caplog.records)


def test_a_job_that_is_deleted_before_its_files_are_published_leaves_nothing(house: House, begin: Begin) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "one", made="1")
    dies_at("files.before_publish", puppet, held)
    other = begin()

    other.jobs.delete_job(job_id)
    other.turn()

    assert not Path(other.volume.root, "jobs", job_id).exists()
    with other.store.write() as tx:
        assert not tx.find_chores().unpublished


def test_without_folders_of_their_own_the_next_stage_is_granted_by_the_commit_that_settles(house: House) -> None:
    puppet = Puppet(house)
    house.submit("plain")
    grant, task = puppet.take()
    puppet.number += 1
    finished = Finished(grant.job_id, task.task_id, task.attempt, Outcome.COMPLETED)
    house.broker.publish([Outgoing(REPORTS, Report(puppet.worker, puppet.number, finished=(finished,), room={"*": 9}))])
    house.turn(1)
    puppet.listen()

    assert [grant.stage for grant, _ in puppet.granted] == [1]
