"""The worker's loop: grants, slots, leases and duplicates, on a clock that stands still."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from echelon.shared.ids import WorkerId
from echelon.shared.lease import ORDER_LIFETIME, ORDER_RESENT_FOR
from echelon.shared.logs import ATTEMPTS
from echelon.shared.messages import ANY_QUEUE, Finished, Outcome, Stop
from tests.worker.stand import JOB, Stand, finished, released

Make = Callable[..., Stand]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(**arguments: object) -> Stand:
        return Stand(tmp_path, **{"slots": {ANY_QUEUE: 2}, **arguments})  # type: ignore[arg-type]

    return build


def test_granted_attempts_are_started(make: Make) -> None:
    stand = make()
    refs = stand.tasks(2)
    stand.grant(refs, answers=stand.beat().number)

    stand.turn()

    assert stand.executor.started == refs


def test_no_more_run_at_once_than_there_are_slots(make: Make) -> None:
    stand = make()
    first, second, third = stand.run(3)
    assert stand.executor.started == [first, second]

    stand.executor.end(first)
    stand.turn()

    assert stand.executor.started == [first, second, third]


def test_each_queue_has_its_own_slots(make: Make) -> None:
    stand = make(slots={"default": 1, "transcoding": 2})

    defaults = stand.run(2, queue="default")
    transcodings = stand.run(3, queue="transcoding")

    assert stand.executor.started == [defaults[0], *transcodings[:2]]


def test_slots_for_any_queue_take_what_its_own_slots_cannot(make: Make) -> None:
    stand = make(slots={"default": 1, ANY_QUEUE: 1})

    refs = stand.run(2, queue="default")
    others = stand.run(1, queue="transcoding")

    assert stand.executor.started == refs
    assert others[0] not in stand.executor.started


def test_an_attempt_of_a_queue_that_this_worker_does_not_serve_is_handed_back(make: Make) -> None:
    stand = make(slots={"default": 1})
    refs = stand.tasks()
    stand.grant(refs, answers=stand.beat().number, queue="transcoding")

    stand.turn()

    assert stand.executor.started == []
    assert released(stand.reports()) == refs


def test_the_end_of_an_attempt_is_reported_with_the_room_it_leaves(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    (ref,) = stand.run()

    end = stand.executor.end(ref)
    stand.clock.now += 60.0
    stand.turn()

    report = stand.report()
    assert report.finished == (end,)
    assert report.room == {ANY_QUEUE: 1}
    assert report.seen == stand.order_number


def test_a_doubled_grant_starts_once(make: Make) -> None:
    stand = make()
    (ref,) = stand.tasks()
    orders = stand.grant([ref], answers=stand.beat().number)
    stand.send(orders)
    stand.turn()
    stand.executor.end(ref)
    stand.turn()

    stand.send(orders)
    stand.turn()

    assert stand.executor.started == [ref]
    assert released(stand.reports()) == []


@pytest.mark.parametrize(("lease", "room_believed"), [(15.0, 0.0), (10 * ORDER_RESENT_FOR, 6 * ORDER_RESENT_FOR)])
def test_an_order_that_comes_again_when_its_attempt_has_long_ended_hands_nothing_back(
    make: Make, lease: float, room_believed: float
) -> None:
    stand = make()
    stand.lease = lease
    (ref,) = stand.tasks()
    number = stand.beat().number
    stand.clock.now += room_believed
    orders = stand.grant([ref], answers=number)
    stand.turn()
    stand.executor.end(ref)
    stand.turn()

    # It was in doubt, was sent again, and lay in the worker's queue while there was no connection.
    stand.clock.now += max(ORDER_RESENT_FOR, lease) + ORDER_LIFETIME
    stand.send(orders)
    stand.turn()

    assert stand.executor.started == [ref]
    assert released(stand.reports()) == []


def test_what_was_handed_back_for_want_of_health_does_not_start_when_its_order_comes_again(make: Make) -> None:
    stand = make()
    (ref,) = stand.tasks()
    stand.holdings.set_faulty(True)
    orders = stand.grant([ref], answers=stand.beat().number)
    stand.turn()
    assert released(stand.reports()) == [ref]

    stand.holdings.set_faulty(False)
    stand.send(orders)
    stand.turn()

    assert stand.executor.started == []


def test_of_very_many_attempts_only_those_whose_lease_goes_on_are_remembered(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    answers = stand.beat().number
    stand.grant(stand.tasks(15_000), answers=answers)
    stand.turn()
    stand.turn(after=14.0)
    stand.grant(stand.tasks(15_000), answers=stand.beat().number)
    stand.turn()
    book = stand.agent._orders
    assert len(book._granted) == 30_000, "no lease has ended yet"

    stand.turn(after=2.0)
    stand.renew(answers=stand.beat().number)
    stand.turn()

    assert len(book._granted) == 20_000


def test_a_grant_that_comes_after_its_lease_is_handed_back(make: Make) -> None:
    stand = make()
    refs = stand.tasks()
    stand.grant(refs, answers=stand.beat().number)

    stand.turn(after=15.0)

    assert stand.executor.started == []
    assert released(stand.reports()) == refs


def test_a_grant_that_answers_nothing_known_is_handed_back(make: Make) -> None:
    stand = make()
    refs = stand.tasks()
    stand.grant(refs, answers=4711)

    stand.turn()

    assert stand.executor.started == []
    assert released(stand.reports()) == refs


def test_an_order_for_another_worker_is_passed_over(make: Make) -> None:
    stand = make()
    orders = stand.grant(stand.tasks(), answers=stand.beat().number)
    stand.turn()
    stand.send(msgspec.structs.replace(orders, worker=WorkerId("someone else"), number=9))
    before = list(stand.executor.started)

    stand.turn()

    assert stand.executor.started == before


def test_what_has_not_started_within_a_second_is_handed_back(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    running, waiting = stand.run(2)

    stand.turn(after=0.9)
    assert released(stand.reports()) == []
    stand.turn(after=0.2)

    assert released(stand.reports()) == [waiting]
    assert stand.executor.started == [running]


def test_an_attempt_handed_back_does_not_start_when_its_grant_comes_again(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    running, waiting = stand.tasks(2)
    orders = stand.grant([running, waiting], answers=stand.beat().number)
    stand.turn()
    stand.turn(after=1.5)
    stand.executor.end(running)

    stand.send(orders)
    stand.turn()

    assert stand.executor.started == [running]


def test_a_stop_ends_the_running_attempt(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.stop(ref, "cancelled")

    stand.turn()

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "cancelled")]


def test_a_stop_of_a_waiting_attempt_ends_it_unstarted(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    running, waiting = stand.run(2)
    stand.stop(waiting, "fail_fast")

    stand.turn()

    assert stand.executor.started == [running]
    assert finished(stand.reports()) == [
        Finished(JOB, waiting.task_id, waiting.attempt, Outcome.STOPPED, error="fail_fast", begun=False)
    ]


def test_a_stop_that_overtakes_its_grant_holds(make: Make) -> None:
    stand = make()
    (ref,) = stand.tasks()
    stand.stop(ref)
    stand.grant([ref], answers=stand.beat().number)

    stand.turn()

    assert stand.executor.started == []


def test_a_stop_is_ordered_once(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.stop(ref)
    stand.stop(ref)

    stand.turn()

    assert len(stand.executor.stopped) == 1


def test_an_attempt_whose_lease_is_not_renewed_is_ended_before_the_lease(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()

    stand.turn(after=9.9)
    assert stand.executor.stopped == []
    stand.turn(after=0.2)

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]


def test_a_task_with_a_short_grace_may_use_more_of_its_lease(make: Make) -> None:
    stand = make()
    (ref,) = stand.tasks()
    stand.grant([ref], answers=stand.beat().number, grace=0.5)
    stand.turn()

    stand.turn(after=12.4)
    assert stand.executor.stopped == []
    stand.turn(after=0.2)

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]


@pytest.mark.parametrize(("lease", "fence", "grace"), [(15.0, 10.0, 3.0), (6.0, 3.6, 1.2), (3.0, 1.8, 0.6)])
def test_of_a_short_lease_only_a_part_is_kept_in_reserve(make: Make, lease: float, fence: float, grace: float) -> None:
    stand = make()
    stand.lease = lease
    (ref,) = stand.run()

    stand.turn(after=fence - 0.15)
    assert stand.executor.stopped == []
    stand.turn(after=0.2)

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]
    assert stand.executor.graces == [pytest.approx(grace)]
    assert stand.heartbeat.interval == lease / 3


def test_a_cancelled_task_has_its_whole_grace_however_short_the_lease(make: Make) -> None:
    stand = make()
    stand.lease = 3.0
    (ref,) = stand.run()

    stand.stop(ref)
    stand.turn()

    assert stand.executor.graces == [math.inf]


def test_a_renewal_counts_from_the_moment_its_report_was_sent(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.clock.now += 5.0
    beat = stand.beat()
    stand.renew(answers=beat.number)

    stand.turn(after=4.0)
    stand.turn(after=5.9)
    assert stand.executor.stopped == []
    stand.turn(after=0.2)

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "lease_lost")]


def test_renewals_that_lie_waiting_after_a_pause_are_taken_in_before_leases_are_judged(make: Make) -> None:
    stand = make()
    stand.run()
    stand.clock.now += 9.0
    stand.renew(answers=stand.beat().number)

    stand.turn(after=5.0)

    assert stand.executor.stopped == []


def test_after_a_pause_longer_than_the_lease_everything_is_ended(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    running, waiting = stand.run(2)

    stand.turn(after=45.0)

    assert stand.executor.started == [running]
    assert stand.executor.stopped == [(running, Outcome.STOPPED, "lease_lost")]
    assert released(stand.reports()) == [waiting]


def test_a_renewal_without_this_attempt_does_not_renew_it(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.clock.now += 5.0
    stand.renew(answers=stand.beat().number, stop=(Stop(ref.task_id, ref.attempt, "claim_lost"),))

    stand.turn()

    assert stand.executor.stopped == [(ref, Outcome.STOPPED, "claim_lost")]


def test_a_result_that_came_too_late_is_reported_all_the_same(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    end = stand.executor.end(ref)

    stand.turn(after=60.0)

    assert finished(stand.reports()) == [end]


def test_a_failed_attempt_is_logged_at_info_and_others_at_debug(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stand = make()
    first, second = stand.run(2)
    stand.executor.end(first, Outcome.FAILED)
    stand.executor.end(second)
    stand.turn()

    said = [record.getMessage() for record in caplog.records if record.name == ATTEMPTS.name]
    assert len(said) == 1
    assert said[0].startswith(f"attempt_failed job={JOB} stage=")

    caplog.set_level(logging.DEBUG)
    (third,) = stand.run(1)
    stand.executor.end(third)
    stand.turn()
    said = [record.getMessage().split()[0] for record in caplog.records if record.name == ATTEMPTS.name]
    assert said[1:] == ["attempt_started", "attempt_ended"]
