"""A store that the first release has left in the middle of its work: migrated, and every job of it taken to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.migrate import HEAD
from echelon.controller.datastore.open import migrate_datastore
from echelon.controller.engine.base.requests import Given
from echelon.shared.errors import Conflict
from echelon.shared.lease import RETURN_TIME
from echelon.shared.messages import AttemptRef
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume
from tests.contract.older import (
    BEGUN,
    CANCELLED,
    FAILED,
    HALFWAY,
    ITEMS,
    ITEMS_PATH,
    leave_first_store,
    task_of,
)
from tests.contract.servers import postgresql_server
from tests.contract.stores import postgresql_template, postgresql_url, store_url
from tests.engine.house import House, Puppet, ref
from tests.engine.jobs import CATALOGUE

__all__ = ["postgresql_server", "postgresql_template", "postgresql_url", "store_url"]

SECRET = "S3CR3T-canary"


@pytest.fixture
def older(tmp_path: Path, store_url: str) -> Iterator[House]:
    """Give a house on a store and a volume of the first release."""
    volume = tmp_path / "volume"
    leave_first_store(store_url, token=Sealer(Volume.create(volume)).seal_text(SECRET))
    items = volume / ITEMS_PATH
    items.parent.mkdir(parents=True)
    items.write_text("".join(ITEMS))
    assert migrate_datastore(store_url) == HEAD
    house = House(tmp_path, CATALOGUE, datastore=store_url)
    yield house
    house.close()


def silence(house: House, seconds: float) -> None:
    """Let time pass in which the engine turns and the worker of that time is not heard."""
    for _ in range(int(seconds)):
        house.clock.pass_(1.0)
        house.turn(1)


def test_what_was_open_runs_to_its_end_and_nothing_that_was_done_runs_again(older: House) -> None:
    house = older
    silence(house, house.settings.lease + RETURN_TIME + 2.0)
    puppet = Puppet(house)
    begun = [ref(held) for held in puppet.granted]
    own = [held for held in puppet.granted if "key" in held[1].input]
    opened = {Sealer(house.volume).open_seal(grant.seal).open_text(str(task.input["key"])) for grant, task in own}
    puppet.run_all()

    assert [house.view(job_id).state for job_id in (BEGUN, HALFWAY)] == [State.COMPLETED] * 2
    assert set(begun) == {
        AttemptRef(task_of(BEGUN, 0, 0), 1), AttemptRef(task_of(HALFWAY, 0, 1), 2),
        AttemptRef(task_of(HALFWAY, 0, 2), 2), AttemptRef(task_of(HALFWAY, 0, 3), 1),
        *(AttemptRef(task.task_id, 1) for task in house.tasks(HALFWAY, 0) if task.index > 3),
    }  # fmt: skip
    assert opened == {SECRET}
    fetched = [task for task in house.tasks(HALFWAY, 0) if task.index >= 0]
    assert [(task.state, task.attempt) for task in fetched] == [
        (State.COMPLETED, attempt) for attempt in (1, 2, 2, 1, 1, 1)
    ]
    assert [task.input for task in fetched[4:]] == [{"url": "u4"}, {"url": "u5"}]


def test_what_had_failed_completes_once_the_tasks_are_skipped_whose_own_secrets_were_erased(older: House) -> None:
    house, puppet = older, Puppet(older)
    given = Given(headers={"Authorization": ["again"]})
    for index in (1, 2, 3):
        with pytest.raises(Conflict, match="of stage 0 needs its own key, erased when the job ended"):
            house.jobs.control.change_job(Verb.RETRY, FAILED, given=given)
        house.jobs.control.change_task(Verb.SKIP, task_of(FAILED, 0, index), given=given)
    puppet.heartbeat()
    puppet.run_all()

    assert house.view(FAILED).state is State.COMPLETED
    done = [(task.state, task.attempt) for task in house.tasks(FAILED)]
    skipped = [(State.SKIPPED, 1), (State.SKIPPED, 0), (State.SKIPPED, 1)]
    assert done == [(State.COMPLETED, 1)] * 2 + skipped + [(State.COMPLETED, 1)]
    assert "job_reopened" in house.kinds(FAILED)


def test_what_a_person_had_cancelled_runs_again_and_a_new_job_takes_no_place_of_an_old_one(older: House) -> None:
    house, puppet = older, Puppet(older)
    house.jobs.control.change_job(Verb.RETRY, CANCELLED)
    new = house.submit("one")
    puppet.heartbeat()
    puppet.run_all()

    assert [house.view(job_id).state for job_id in (CANCELLED, new)] == [State.COMPLETED] * 2
    assert [task.attempt for task in house.tasks(CANCELLED)] == [2]
    assert [len(house.tasks(job_id)) for job_id in (BEGUN, HALFWAY, FAILED, CANCELLED, new)] == [2, 8, 6, 1, 1]
