"""Results are gathered, sent with the room they leave, and never forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from echelon.shared.codec import MAX_BYTES, encode_message
from echelon.shared.messages import ANY_QUEUE, Orders, Outcome, Report
from echelon.worker.attempt import ERROR_LIMIT
from echelon.worker.outputs import RESULT_LIMIT
from tests.worker.stand import WORKER, Stand

Make = Callable[..., Stand]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(slots: int = 1) -> Stand:
        return Stand(tmp_path, slots={ANY_QUEUE: slots})

    return build


def in_a_hurry(stand: Stand) -> None:
    """Teach the worker that its tasks take 0.5 ms."""
    for _ in range(3):
        (ref,) = stand.run()
        stand.clock.now += 0.0005
        stand.executor.end(ref)
        stand.turn()
    stand.reports()


def test_a_worker_that_knows_nothing_of_its_tasks_asks_for_its_slots_alone(make: Make) -> None:
    assert make(slots=3).beat().room == {ANY_QUEUE: 3}


def test_a_worker_of_short_tasks_asks_for_a_tenth_of_a_second_of_them(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.clock.now += 0.01
    stand.executor.end(ref)

    stand.turn()

    assert stand.report().room == {ANY_QUEUE: 1 + 10}


def test_a_worker_never_asks_for_more_than_64_tasks_ahead_of_a_slot(make: Make) -> None:
    stand = make(slots=2)
    in_a_hurry(stand)

    assert stand.beat().room == {ANY_QUEUE: 2 + 2 * 64}


def test_a_long_task_ends_the_asking_ahead(make: Make) -> None:
    stand = make()
    in_a_hurry(stand)
    (ref,) = stand.run()
    stand.clock.now += 10.0
    stand.executor.end(ref)

    stand.turn()

    assert stand.report().room == {ANY_QUEUE: 1}


def test_a_worker_tells_how_much_more_it_takes_of_a_higher_priority(make: Make) -> None:
    stand = make(slots=2)
    in_a_hurry(stand)
    told = stand.beat()
    assert (told.room, told.ahead, told.urgent) == ({ANY_QUEUE: 130}, {ANY_QUEUE: 128}, {})

    stand.grant(stand.tasks(102), answers=told.number)
    stand.grant(urgent := stand.tasks(10), answers=told.number, priority=5)
    stand.turn()
    told = stand.beat()

    # Two run; a higher priority starts before the 8 of priority 5, and before those of priority 0.
    assert stand.executor.started[-2:] == urgent[:2]
    assert (told.room, told.ahead) == ({ANY_QUEUE: 18}, {ANY_QUEUE: 18})
    assert told.urgent == {ANY_QUEUE: {0: 102, 5: 8}}


def test_a_worker_that_wants_nothing_takes_nothing_of_a_higher_priority_either(make: Make) -> None:
    stand = make()
    in_a_hurry(stand)
    stand.run(20)

    stand.clock.now += 10.0
    told = stand.beat()

    assert (told.room, told.ahead, told.urgent) == ({ANY_QUEUE: 0}, {}, {})


def test_waiting_in_vain_ends_the_asking_ahead(make: Make) -> None:
    stand = make()
    in_a_hurry(stand)
    stand.run(20)

    stand.turn(after=1.5)

    assert stand.beat().room == {ANY_QUEUE: 0}


def test_an_end_waits_for_company_while_there_is_more_to_start(make: Make) -> None:
    stand = make()
    in_a_hurry(stand)
    refs = stand.run(100)

    for ref in refs[:10]:
        stand.clock.now += 0.001
        stand.executor.end(ref)
        stand.turn()

    assert stand.reports() == []
    stand.turn(after=0.06)
    assert len(stand.report().finished) == 10


def test_more_is_asked_for_while_half_of_the_backlog_is_still_there(make: Make) -> None:
    stand = make()
    in_a_hurry(stand)
    refs = stand.run(65)
    asked: list[Report] = []

    for ref in refs[:50]:
        stand.clock.now += 0.0005
        stand.executor.end(ref)
        stand.turn()
        asked += [report for report in stand.reports() if report.room]
        if asked:
            break

    assert [report.room for report in asked] == [{ANY_QUEUE: 33}]


def test_a_full_batch_goes_at_once(make: Make) -> None:
    stand = make(slots=200)
    refs = stand.run(400)

    for ref in refs[:150]:
        stand.executor.end(ref)
    stand.turn()

    assert [len(report.finished) for report in stand.reports()] == [64, 64, 22]


def test_large_results_make_smaller_batches(make: Make) -> None:
    stand = make(slots=20)
    for ref in stand.run(20):
        stand.executor.end(ref, result="x" * 65_536)

    stand.turn()

    assert [len(report.finished) for report in stand.reports()] == [4, 4, 4, 4, 4]


def test_only_the_last_of_several_reports_tells_the_room(make: Make) -> None:
    stand = make(slots=200)
    for ref in stand.run(200):
        stand.executor.end(ref)

    stand.turn()

    rooms = [report.room for report in stand.reports()]
    assert rooms[:-1] == [None, None, None]
    assert rooms[-1] is not None and rooms[-1][ANY_QUEUE] >= 200


def test_reports_are_numbered(make: Make) -> None:
    stand = make()
    numbers = [stand.beat().number]
    for _ in range(3):
        (ref,) = stand.tasks()
        stand.grant([ref], answers=numbers[-1])
        stand.turn()
        stand.executor.end(ref)
        stand.turn()
        numbers += [report.number for report in stand.reports()]

    assert numbers == [1, 2, 3, 4]


def test_without_change_nothing_is_sent(make: Make) -> None:
    stand = make(slots=4)
    stand.run(2)
    stand.turn(after=0.1)
    assert stand.report().started is not None

    for _ in range(20):
        stand.turn(after=0.1)

    assert stand.reports() == []


def test_a_room_that_was_told_is_not_told_again_before_the_next_heartbeat(make: Make) -> None:
    stand = make(slots=4)
    stand.beat()
    stand.reports()

    stand.turn()

    assert stand.reports() == []


def test_a_report_without_room_leaves_the_orders_it_counts_as_they_were(make: Make) -> None:
    stand = make()
    in_a_hurry(stand)
    told = stand.beat()
    refs = stand.tasks(65)
    stand.grant(refs, answers=told.number)
    stand.turn()
    stand.executor.end(refs[0])
    stand.turn()
    stand.turn(after=0.06)

    report = stand.report()

    assert report.room is None
    assert report.seen == told.seen == stand.order_number - 1


def test_an_order_that_grants_nothing_or_is_overtaken_does_not_set_back_what_was_seen(make: Make) -> None:
    stand = make()
    stand.run()
    stand.run()
    stand.send(Orders(WORKER, 0, 1, 15.0))
    stand.send(Orders(WORKER, 1, 1, 15.0))

    stand.turn()

    assert stand.beat().seen == 2


def test_what_could_not_be_handed_over_is_sent_again_after_a_pause(make: Make) -> None:
    stand = make(slots=2)
    first, second = stand.run(2)
    stand.broker.refusing = True
    stand.clock.now += 1.0
    ends = [stand.executor.end(first)]
    stand.turn()
    ends.append(stand.executor.end(second))
    stand.turn()
    stand.broker.refusing = False

    stand.turn(after=0.05)
    assert stand.reports() == []
    stand.turn(after=0.06)

    report = stand.report()
    assert report.finished == tuple(ends)
    assert report.room == {ANY_QUEUE: 2}


def test_what_found_no_connection_is_sent_again_as_soon_as_there_is_one(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.broker.cut = True
    end = stand.executor.end(ref)
    for _ in range(400):
        stand.turn(after=0.05)
    assert stand.reports() == []
    stand.broker.cut = False

    stand.turn()

    assert stand.report().finished == (end,)


def test_the_pause_grows_to_five_seconds_and_no_further(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.broker.cut = True
    tries: list[float] = []
    publish = stand.broker.publish

    def noting(messages, **rest):  # type: ignore[no-untyped-def]
        tries.append(stand.clock.now)
        publish(messages, **rest)

    stand.broker.publish = noting  # type: ignore[method-assign]
    stand.executor.end(ref)
    for _ in range(400):
        stand.turn(after=0.05)

    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses[0] < 0.2
    assert all(earlier <= later + 0.1 for earlier, later in itertools.pairwise(pauses))
    assert max(pauses) < 5.2


def test_handed_back_attempts_are_never_forgotten(make: Make) -> None:
    stand = make()
    _running, waiting = stand.run(2)
    stand.broker.cut = True
    stand.turn(after=1.5)
    stand.broker.cut = False

    stand.turn(after=0.2)

    assert [report.released for report in stand.reports() if report.released] == [(waiting,)]


def test_an_end_keeps_all_that_the_executor_said(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    end = stand.executor.end(ref, Outcome.FAILED, result="half")

    stand.turn()

    assert stand.report().finished == (end,)


def test_an_error_that_is_no_unicode_is_made_so(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.executor.end(ref, Outcome.NOT_STARTED, error="cannot run 'caf\udce9 \N{BLACK STAR}'")

    stand.turn()

    assert stand.report().finished[0].error == "cannot run 'caf? \N{BLACK STAR}'"


def test_the_largest_results_fit_into_messages(make: Make) -> None:
    stand = make(slots=64)
    refs = stand.run(64)
    for ref in refs:
        # Each of these takes six bytes of a message.
        stand.executor.end(ref, Outcome.FAILED, result="\x01" * RESULT_LIMIT, error="\x01" * ERROR_LIMIT)

    stand.turn()

    reports = stand.reports()
    assert [len(encode_message(report)) <= MAX_BYTES for report in reports] == [True] * len(reports)
    assert sum(len(report.finished) for report in reports) == 64


def test_however_many_attempts_are_handed_back_each_report_is_a_message(make: Make) -> None:
    stand = make(slots=1)
    refs = stand.tasks(100_000)
    stand.reporter.add_released(refs)

    stand.turn()

    reports = stand.reports()
    assert [len(encode_message(report)) <= MAX_BYTES for report in reports] == [True] * len(reports)
    assert [ref for report in reports for ref in report.released] == refs
