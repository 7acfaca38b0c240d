"""A worker that hears nobody: it goes on while nobody can take its tasks away, and ends them when somebody can."""

from __future__ import annotations

from pathlib import Path

import pytest

from echelon.shared.lease import STATUS_READ_EVERY
from echelon.shared.messages import ANY_QUEUE, Outcome
from tests.worker.stand import LEASE, Stand


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, slots={ANY_QUEUE: 2})


def test_running_tasks_go_on_for_as_long_as_no_controller_could_give_them_to_others(stand: Stand) -> None:
    (ref,) = stand.run()
    stand.any_controller_able = False
    stand.broker.cut = True
    for _ in range(3600):
        stand.turn(after=1.0)

    assert stand.executor.stopped == []
    stand.broker.cut = False
    stand.executor.end(ref)
    stand.turn()
    assert [end.task_id for report in stand.reports() for end in report.finished] == [ref.task_id]


def test_they_are_ended_when_a_controller_could_while_this_worker_is_still_cut_off(stand: Stand) -> None:
    (ref,) = stand.run()
    stand.any_controller_able = False
    for _ in range(60):
        stand.turn(after=1.0)
    stand.any_controller_able = True
    for _ in range(int(LEASE - STATUS_READ_EVERY)):
        stand.turn(after=1.0)
        assert stand.executor.stopped == []
    for _ in range(int(STATUS_READ_EVERY) + 1):
        stand.turn(after=1.0)

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]


def test_a_renewal_after_the_outage_counts_as_ever(stand: Stand) -> None:
    (ref,) = stand.run()
    stand.any_controller_able = False
    for _ in range(60):
        stand.turn(after=1.0)
    stand.any_controller_able = True
    stand.renew(answers=stand.beat().number)
    for _ in range(9):
        stand.turn(after=1.0)

    assert stand.executor.stopped == []
    stand.turn(after=1.5)
    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]


def test_an_answer_that_was_on_its_way_all_through_the_outage_ends_nothing(stand: Stand) -> None:
    (ref,) = stand.run()
    before = stand.beat().number
    stand.any_controller_able = False
    for _ in range(60):
        stand.turn(after=1.0)
    stand.any_controller_able = True
    stand.renew(answers=before)
    stand.turn(after=1.0)
    stand.turn(after=5.0)

    assert stand.executor.stopped == []
    assert ref in stand.executor.running


def test_a_second_outage_is_one_again(stand: Stand) -> None:
    (ref,) = stand.run()
    for _ in range(3):
        stand.any_controller_able = False
        for _ in range(60):
            stand.turn(after=1.0)
        stand.any_controller_able = True
        stand.turn(after=5.0)

    assert ref in stand.executor.running and stand.executor.stopped == []


def test_what_a_person_has_ended_is_ended_here_too_when_no_message_could_say_so(stand: Stand) -> None:
    first, second = stand.run(2)
    stand.any_controller_able = False
    for _ in range(60):
        stand.turn(after=1.0)
    assert stand.executor.stopped == []

    stand.taken_away.add(second)
    for _ in range(15):
        stand.turn(after=1.0)

    assert stand.executor.stopped == [(second, Outcome.STOPPED, "lease_lost")]
    assert first in stand.executor.running
