"""Ended jobs go when they are too old, too many or too large: rows, logs and files together, and nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Event

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.filters import JobFilter
from echelon.controller.datastore.records import EventView
from echelon.controller.datastore.removals import Removal, RemovalWrites
from echelon.controller.engine.base.requests import Prune
from echelon.controller.engine.upkeep import remover
from echelon.shared.errors import EchelonError, VolumeUnavailable
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome
from echelon.shared.volume import Volume
from tests.engine.house import House, Make, Puppet
from tests.engine.jobs import reopen, spawned, urls

DAY = 86_400.0
TYPES = """
    tasks:
      work: {exec_command: "true"}
    jobs:
      plain: {stages: [{name: A, task_class: work}]}
      audited: {keep: 30d, stages: [{name: A, task_class: work}]}
      brief: {keep: 1h, stages: [{name: A, task_class: work}]}
"""


def end_job(house: House, puppet: Puppet, type_: str = "plain", *, size: int = 0) -> JobId:
    """Run a job to its end and leave a file of some bytes in its workspace."""
    job_id = house.submit(type_)
    folder = Path(house.volume.prepare_workspace(job_id, house.view(job_id).revision))
    (folder / "result").write_bytes(b"x" * size)
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED
    return job_id


def look(house: House) -> None:
    house.controller.retention.remove_expired(Event())


def left(house: House) -> set[JobId]:
    """Return the jobs of which a row is left; the files must agree."""
    with house.store.read() as reader:
        rows = {view.job_id for view in reader.list_jobs(JobFilter(), limit=100, cursor=None).items}
    assert {path.name for path in (house.settings.volume / "jobs").iterdir()} <= rows
    return rows


def count_rows(house: House) -> dict[str, int]:
    """Return the number of rows in each table that grows with jobs."""
    path = house.settings.datastore_url.removeprefix("sqlite:///")
    names = ("jobs", "job_inputs", "stages", "tasks", "attempts", "events", "unpublished", "compositions", "removals")
    with sqlite3.connect(path) as connection:
        found = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    connection.close()
    return found


def count_calls(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note each transaction that deletes rows of a deleted job."""
    delete = RemovalWrites.delete_leftovers

    def note(self: RemovalWrites, removal: Removal, *, limit: int) -> bool:
        calls.append(limit)
        return delete(self, removal, limit=limit)

    monkeypatch.setattr(RemovalWrites, "delete_leftovers", note)


def list_events(house: House, job_id: JobId) -> list[EventView]:
    with house.store.read() as reader:
        return list(reader.list_events(job_id, limit=500, cursor=None).items)


def test_without_a_limit_nothing_goes(make: Make) -> None:
    house = make(TYPES)
    job_id = end_job(house, Puppet(house))
    house.clock.pass_(10_000 * DAY)

    look(house)

    assert left(house) == {job_id}


def test_a_job_goes_when_it_is_too_old_with_all_that_it_has(make: Make) -> None:
    house = make(TYPES, retention_age=7 * DAY)
    puppet = Puppet(house)
    old = end_job(house, puppet)
    house.clock.pass_(6 * DAY)
    puppet.heartbeat()
    recent = end_job(house, puppet)
    running = house.submit("plain")
    house.clock.pass_(1 * DAY + 1)

    look(house)
    assert left(house) == {recent, running}
    assert not (house.settings.volume / "jobs" / old).exists()

    house.clock.pass_(100 * DAY)
    look(house)
    assert left(house) == {running}, "an open job stays, whatever its age"


def test_a_job_type_may_keep_its_jobs_longer_or_shorter(make: Make) -> None:
    house = make(TYPES, retention_age=7 * DAY, retention_jobs=1, retention_bytes=1)
    puppet = Puppet(house)
    audited, *_ = [end_job(house, puppet, one, size=9) for one in ("audited", "brief", "plain", "plain")]
    house.clock.pass_(3601.0)

    look(house)
    assert left(house) == {audited}, "limits of number and size are not for types with a time of their own"

    house.clock.pass_(29 * DAY)
    look(house)
    assert left(house) == {audited}
    house.clock.pass_(1 * DAY)
    look(house)
    assert left(house) == set()


def test_of_too_many_jobs_those_that_ended_first_go(make: Make) -> None:
    house = make(TYPES, retention_jobs=3)
    puppet = Puppet(house)
    jobs = []
    for _ in range(5):
        jobs.append(end_job(house, puppet))
        house.clock.pass_(1.0)

    look(house)

    assert left(house) == set(jobs[2:])


def test_of_too_large_jobs_those_that_ended_first_go(make: Make) -> None:
    house = make(TYPES, retention_bytes=25)
    puppet = Puppet(house)
    jobs = []
    for _ in range(4):
        jobs.append(end_job(house, puppet, size=10))
        house.clock.pass_(1.0)

    look(house)

    assert left(house) == set(jobs[2:])


def test_a_large_job_goes_in_many_short_transactions(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remover, "_ROWS", 100)
    puppet = Puppet(house, room={"*": 2000})
    job_id = spawned(house, puppet, "many", urls(950))
    house.turn(10)
    puppet.run_all()
    neighbour = end_job(house, puppet, "two")
    before = count_rows(house)
    changes: list[int] = []
    count_calls(changes, monkeypatch)

    house.jobs.delete_job(job_id)

    after = count_rows(house)
    assert before["tasks"] > 950
    assert len(changes) >= 10, "the rows went in parts"
    assert (after["jobs"], after["tasks"], after["removals"]) == (1, 2, 0)
    assert {view.kind for view in list_events(house, neighbour)} >= {"job_completed"}
    assert after["events"] == len(list_events(house, neighbour))


def test_what_is_cut_off_is_finished_by_the_next_look(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    puppet = Puppet(house)
    job_id = end_job(house, puppet, "two")
    other = end_job(house, puppet, "two")

    def fail(_self: Volume, _job_id: JobId) -> None:
        raise VolumeUnavailable("the volume is away")

    with monkeypatch.context() as patch:
        patch.setattr(Volume, "remove_job", fail)
        with pytest.raises(EchelonError):
            house.jobs.delete_job(job_id)
        look(house)
    assert (house.settings.volume / "jobs" / job_id).exists()

    look(house)

    assert not (house.settings.volume / "jobs" / job_id).exists()
    assert count_rows(house)["removals"] == 0
    assert left(house) == {other}


def test_a_job_that_runs_again_meanwhile_stays(make: Make) -> None:
    house = make(TYPES)
    puppet = Puppet(house)
    job_id = house.submit("plain")
    puppet.run_all(lambda _grant, _task: Outcome.FAILED)
    with house.store.read() as reader:
        found = reader.list_ended(before=reader.now() + 1, limit=10)
    house.clock.pass_(5.0)
    reopen(house.jobs, job_id)
    assert house.jobs.remover.remove_jobs(found) == []
    house.turn()
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED

    assert house.jobs.remover.remove_jobs(found) == [], "it ended anew, later than was looked at"
    assert left(house) == {job_id}


def test_a_dry_run_tells_how_many_and_how_large_and_removes_nothing(make: Make) -> None:
    house = make(TYPES)
    puppet = Puppet(house)
    jobs = {end_job(house, puppet, size=10) for _ in range(5)}
    audited = end_job(house, puppet, "audited", size=10)
    house.clock.pass_(3 * DAY)
    puppet.heartbeat()
    recent = end_job(house, puppet, size=10)

    def prune(*, dry_run: bool, type_: str | None = "plain") -> tuple[int, int]:
        total, size, after = 0, 0, -1
        while True:
            part = house.jobs.prune_jobs(Prune(2 * DAY, type_, dry_run, after), limit=2, seconds=60.0)
            total, size = total + part.jobs, size + part.bytes
            if part.next is None:
                return total, size
            after = part.next

    assert prune(dry_run=True) == (5, 50)
    assert left(house) == jobs | {audited, recent}
    assert prune(dry_run=False) == (5, 50)
    assert left(house) == {audited, recent}
    assert prune(dry_run=False, type_=None) == (1, 10)
    assert left(house) == {recent}


def test_the_files_of_a_deleted_job_stay_while_its_processes_may_be_ending(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.take()
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    folder = house.settings.volume / "jobs" / job_id
    (folder / "work").mkdir(parents=True, exist_ok=True)

    house.jobs.delete_job(job_id)
    look(house)
    # A process that is still ending would make its folder again.
    assert house.store.find_job(job_id) is None
    assert folder.exists()

    house.clock.pass_(house.settings.lease + 1)
    look(house)
    assert not folder.exists()
    assert count_rows(house)["removals"] == count_rows(house)["tasks"] == 0
