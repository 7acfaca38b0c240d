"""The log tells of the work: jobs, failed attempts and workers at info, single tasks at debug."""

from __future__ import annotations

import logging

import pytest

from echelon.shared.logs import JOBS, Facts
from echelon.shared.messages import Outcome
from tests.engine.house import House, Make, Puppet


def read_facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Return the facts that were logged."""
    return [dict(fact) for record in caplog.records if isinstance(record.msg, Facts) for fact in record.msg.lines]


def read_events(caplog: pytest.LogCaptureFixture) -> list[object]:
    """Return the events that were logged, in order."""
    return [fact["event"] for fact in read_facts(caplog)]


def test_each_event_of_a_job_is_a_line_with_its_job(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    puppet = Puppet(house)
    job_id = house.submit("two")
    puppet.run_all()
    house.jobs.delete_job(job_id)

    of_job = [fact for fact in read_facts(caplog) if fact.get("job") == job_id]
    assert [fact["event"] for fact in of_job] == [
        "job_accepted", "job_submitted", "job_started", "stage_started", "stage_completed", "stage_started",
        "stage_completed", "job_completed", "job_deleted",
    ]  # fmt: skip
    assert of_job[0]["type"] == "two"


def test_a_failed_attempt_is_a_line_that_says_which_and_why(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    puppet = Puppet(house)
    job_id = house.submit("two")
    puppet.finish(puppet.take(), Outcome.FAILED, error="exit code 3")

    failed = next(fact for fact in read_facts(caplog) if fact["event"] == "task_failed")
    assert failed == {
        "event": "task_failed", "job": job_id, "stage": 0, "index": 0, "outcome": "failed", "attempt": 1,
        "error": "exit code 3",
    }  # fmt: skip


def test_tasks_have_lines_at_debug_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    puppet = Puppet(house)
    house.submit("two")
    puppet.run_all()

    assert read_events(caplog).count("task_completed") == 2
    caplog.clear()
    caplog.set_level(logging.INFO)
    house.submit("two")
    puppet.run_all()
    assert "job_completed" in read_events(caplog)
    assert "task_completed" not in read_events(caplog)


def test_what_is_rolled_back_is_not_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job_id = house.submit("two")
    caplog.clear()

    with pytest.raises(ZeroDivisionError), house.store.write() as tx:
        tx.lock_jobs([job_id])
        tx.record_event(job_id, "never")
        raise ZeroDivisionError

    assert read_events(caplog) == []


def test_a_transaction_is_one_record_and_none_if_nobody_reads(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    house.submit("two")
    assert sum(record.name == JOBS.name for record in caplog.records) == 1

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(Facts, "__init__", lambda self, lines: pytest.fail("a fact was made"))
    house.submit("two")


def test_workers_have_a_line_when_they_come_are_lost_return_and_leave(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    house = make(lease=15.0)
    puppet = Puppet(house, name="north")

    def look() -> list[object]:
        house.clock.pass_(3.0)
        house.turn()
        told = [fact for fact in read_facts(caplog) if fact.get("name") == "north"]
        caplog.clear()
        return [fact["event"] for fact in told]

    assert look() == ["worker_up"]
    assert look() == []
    house.clock.pass_(20.0)
    assert look() == ["worker_lost"]
    puppet.heartbeat()
    assert look() == ["worker_returned"]
    puppet.report(goodbye=True)
    assert look() == ["worker_left"]
