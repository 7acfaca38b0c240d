"""Files of a task that is repeated: those of each attempt that counted are seen, in the order of the attempts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Choice, Composition
from echelon.shared.errors import VolumeUnavailable
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome
from echelon.shared.volume import Volume
from tests.engine.house import House, Make, Puppet
from tests.engine.private_files import CATALOGUE, began, leave, seen


@pytest.fixture
def house(make: Make) -> House:
    return make(CATALOGUE)


@contextmanager
def volume_away(monkeypatch: pytest.MonkeyPatch, attempts: tuple[int, ...] = (1, 2, 3)) -> Iterator[None]:
    """Let no file of these attempts be moved for a while."""
    publish = Volume.publish_files

    def refuse(volume: Volume, job_id: JobId, attempt_path: str) -> tuple[str, ...]:
        if int(attempt_path.rpartition("-")[2]) in attempts:
            raise VolumeUnavailable("away")
        return publish(volume, job_id, attempt_path)

    with monkeypatch.context() as patch:
        patch.setattr(Volume, "publish_files", refuse)
        yield


def repeated(house: House, puppet: Puppet, job_id: JobId, **files: str) -> None:
    """Let the tasks of the first stage complete once more, with these files."""
    house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(only_failed=False))
    puppet.heartbeat()
    again = puppet.take()
    leave(house, again, **files)
    puppet.finish(again)


def test_a_task_that_is_repeated_before_its_files_are_published_does_not_hold_up_what_follows(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1", first="1")
    with volume_away(monkeypatch):
        puppet.finish(held)
        repeated(house, puppet, job_id, made="2", second="2")
        assert house.tasks(job_id)[0].state is State.COMPLETED
        assert puppet.granted == []
        assert seen(house, job_id) == {}
    house.clock.pass_(2.0)
    puppet.heartbeat()

    assert [grant.stage for grant, _ in puppet.granted] == [1]
    assert seen(house, job_id) == {"made": "2", "first": "1", "second": "2"}
    with house.store.write() as tx:
        assert not tx.find_chores().unpublished


def test_the_files_of_a_task_that_is_repeated_are_published_while_its_next_attempt_runs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1")
    with volume_away(monkeypatch):
        puppet.finish(held)
        house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(only_failed=False))
        puppet.heartbeat()
    house.clock.pass_(2.0)
    puppet.heartbeat()
    assert seen(house, job_id) == {"made": "1"}

    puppet.finish(puppet.take(), Outcome.FAILED)
    house.jobs.control.change_stage(Verb.SKIP, job_id, 0)
    puppet.heartbeat()

    assert [grant.stage for grant, _ in puppet.granted] == [1]


def test_a_controller_that_stood_still_publishes_no_older_files_over_newer_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1", kept="1")
    publisher = house.controller.engine._parts.publisher
    with volume_away(monkeypatch):
        puppet.finish(held)
        stale = publisher._find_unpublished(None, after=-1)
        repeated(house, puppet, job_id, made="2")
    house.clock.pass_(2.0)
    puppet.heartbeat()
    before = seen(house, job_id)

    publisher._record_published(stale, publisher.publish_found(stale))

    assert before == seen(house, job_id) == {"made": "2", "kept": "1"}


def test_newer_files_wait_for_older_ones_that_cannot_be_published_yet(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1")
    with volume_away(monkeypatch, attempts=(1,)):
        puppet.finish(held)
        repeated(house, puppet, job_id, made="2")
        with pytest.raises(VolumeUnavailable):
            house.jobs.show_files(job_id)
        assert seen(house, job_id) == {}
        assert puppet.granted == []

    house.jobs.show_files(job_id)

    assert seen(house, job_id) == {"made": "2"}


def test_a_mark_that_is_removed_late_does_not_take_the_one_of_the_next_attempt_along(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id, held = began(house, puppet, "two", made="1")
    publisher = house.controller.engine._parts.publisher
    with volume_away(monkeypatch):
        puppet.finish(held)
        stale = publisher._find_unpublished(None, after=-1)
        repeated(house, puppet, job_id, made="2")
        publisher._record_published(stale, {stale[0].key: ()})
        puppet.heartbeat()
        assert puppet.granted == [], "the files of its second attempt are still to come"
    house.clock.pass_(2.0)
    puppet.heartbeat()

    assert seen(house, job_id) == {"made": "2"}
    assert [grant.stage for grant, _ in puppet.granted] == [1]


def test_a_stage_of_several_classes_is_waited_for_whichever_of_them_has_folders_of_its_own(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    stages = [
        {"name": "Both", "tasks": [{"task_class": "step"}, {"task_class": "make"}]},
        {"name": "Use", "tasks": [{"task_class": "step"}]},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("mine", stages))
    house.turn()
    with volume_away(monkeypatch):
        puppet.finish(puppet.take())
        puppet.finish(puppet.take())
        assert [stage.state for stage in house.view(job_id).stages] == [State.COMPLETED, State.RUNNING]
        assert puppet.granted == []
    house.clock.pass_(2.0)
    puppet.heartbeat()

    assert [grant.stage for grant, _ in puppet.granted] == [1]
