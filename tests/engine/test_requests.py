"""What people ask for: submit, cancel, retry, delete; and what a restart keeps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import InvalidInputs, Submission
from echelon.shared import failpoints
from echelon.shared.errors import Conflict, NotFound
from echelon.shared.messages import Outcome
from tests.engine.house import House, Make, Puppet
from tests.engine.jobs import CATALOGUE, reopen, spawned, urls


def test_cancel_is_final_and_stops_what_runs(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", urls(10))
    running = puppet.take()
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    house.turn()
    puppet.finish(running)

    view = house.view(job_id)
    assert view.state is State.CANCELLED
    assert {task.state for task in house.tasks(job_id)} == {State.CANCELLED, State.COMPLETED}
    assert {stop.reason for stop in puppet.stopped} == {"cancelled"}
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    assert house.view(job_id) == view


def test_an_ended_job_cannot_be_cancelled_and_an_open_one_neither_retried_nor_deleted(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("one")
    for forbidden in (lambda: reopen(house.jobs, job_id), lambda: house.jobs.delete_job(job_id)):
        with pytest.raises(Conflict):
            forbidden()
    puppet.run_all()
    with pytest.raises(Conflict):
        house.jobs.control.change_job(Verb.CANCEL, job_id)


def test_retry_runs_only_what_has_not_completed(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(4))
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index == 2 else Outcome.COMPLETED)
    assert house.view(job_id).state is State.FAILED
    reopen(house.jobs, job_id)
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
    reopen(house.jobs, job_id)
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
        facts = reader.find_facts(job_id)
    assert facts is not None and facts.inputs.sealed == {}
    written = b"".join(file.read_bytes() for file in house.settings.volume.rglob("*") if file.is_file())
    assert b"S3CR3T-canary" not in written


def test_retry_asks_for_an_erased_secret_again(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("secret", {"Authorization": ["first"]}, url="u")
    puppet.finish(puppet.take(), Outcome.FAILED)
    with pytest.raises(InvalidInputs, match="Authorization"):
        reopen(house.jobs, job_id)
    reopen(house.jobs, job_id, {"Authorization": ["second"]})
    house.turn()
    grant, _ = puppet.take()

    assert (set(grant.sealed), grant.input["url"]) == ({"token"}, "u")


def test_one_idempotency_key_makes_one_job(house: House) -> None:
    first = house.jobs.submit_job(Submission("one", {}, idempotency_key="k"))
    again = house.jobs.submit_job(Submission("one", {}, idempotency_key="k"))

    assert (first[1], again) == (True, (first[0], False))
    with pytest.raises(Conflict):
        house.jobs.submit_job(Submission("two", {}, idempotency_key="k"))


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
        house.jobs.submit_job(Submission("secret", values, headers))  # type: ignore[arg-type]

    assert [mistake.pointer for mistake in caught.value.mistakes] == [pointer]


def test_an_unknown_type_is_not_found_and_the_known_ones_are_named(house: House) -> None:
    with pytest.raises(NotFound, match="lenient"):
        house.jobs.submit_job(Submission("lenent", {}))


def test_a_deleted_job_is_gone_with_its_folder(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", [])
    puppet.run_all()
    folder = house.settings.volume / "jobs" / job_id
    assert folder.is_dir()
    house.jobs.delete_job(job_id)

    assert not folder.exists()
    with house.store.read() as reader:
        assert reader.find_job(job_id) is None


def test_a_delete_that_was_cut_off_before_the_folder_is_finished_by_asking_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "lenient", [])
    puppet.run_all()
    monkeypatch.setattr(failpoints, "_armed", None)
    failpoints.arm_failpoints({failpoints.VARIABLE: "delete.after_commit:raise"})
    with pytest.raises(failpoints.FailpointReached):
        house.jobs.delete_job(job_id)

    with pytest.raises(NotFound):
        house.jobs.delete_job(job_id)

    assert not (house.settings.volume / "jobs" / job_id).exists()


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


def test_a_catalogue_that_is_not_valid_any_more_is_a_warning_and_the_last_good_one_serves_on(house: House) -> None:
    Puppet(house)
    house.settings.catalogue[0].write_text("tasks: {step: {}}")
    over = time.monotonic() + 30.0
    while not house.watcher.turn():
        assert time.monotonic() < over, "the watcher never looked"

    health = house.jobs.check_health()

    warned = {part.name: part.detail for part in health.parts if not part.ok}
    assert health.ready and list(warned) == ["catalogue"]
    assert "catalogue.yaml:1" in warned["catalogue"] and "exec_command" in warned["catalogue"]
    assert house.view(house.submit("one")).state is State.RUNNING
