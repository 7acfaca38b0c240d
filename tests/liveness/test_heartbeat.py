"""A heartbeat names the held attempts, asks for renewal, and goes on whatever the agent does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from echelon.shared.clock import SystemClock
from echelon.shared.ids import WorkerId
from echelon.shared.messages import ANY_QUEUE, REPORTS, Report, WorkerCard
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.heartbeat import UNANSWERED, Heartbeat
from echelon.worker.liveness.report_log import ReportLog
from echelon.worker.slots import Slots
from tests.worker.stand import WORKER, CutBroker, Stand


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, slots={ANY_QUEUE: 2}, buried=[WorkerId("an earlier life")])


def test_it_says_who_lives_what_it_holds_and_what_it_could_take(stand: Stand) -> None:
    refs = stand.run(3)

    beat = stand.beat()

    assert beat.card == WorkerCard("w", "host", 1, "0", {ANY_QUEUE: 2})
    assert beat.running == tuple(refs)
    assert beat.room == {ANY_QUEUE: 0}
    assert beat.seen == stand.order_number


def test_an_idle_worker_names_nothing_so_that_nothing_is_kept_for_it(stand: Stand) -> None:
    assert stand.beat().running == ()


def test_earlier_lives_are_named_until_the_broker_has_taken_a_report_that_names_them(stand: Stand) -> None:
    stand.broker.cut = True
    stand.heartbeat.send_heartbeat()
    stand.broker.cut = False
    assert stand.buried_lives == []

    second, third = stand.beat(), stand.beat()

    assert second.buried == ("an earlier life",)
    assert third.buried == ()
    assert stand.buried_lives == ["an earlier life"]


def test_it_asks_for_no_work_while_the_agent_hangs(stand: Stand) -> None:
    stand.turn()
    stand.clock.now += 3.5

    assert stand.beat().room == {ANY_QUEUE: 0}

    stand.turn()
    assert stand.reports()[-1].room == {ANY_QUEUE: 2}


def test_a_worker_that_no_controller_answers_says_so_once(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    said = []
    for _ in range(3 * UNANSWERED):
        stand.heartbeat.send_heartbeat()
        said.append(len(caplog.records))

    assert said == [0] * UNANSWERED + [1] * (2 * UNANSWERED)
    assert "--queue-type" in caplog.text


def test_a_worker_that_is_answered_or_that_has_no_broker_has_nothing_to_say(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3 * UNANSWERED):
        stand.renew(answers=stand.beat().number)
        stand.turn()
    stand.broker.cut = True
    for _ in range(3 * UNANSWERED):
        stand.heartbeat.send_heartbeat()

    assert caplog.records == []


def test_a_heartbeat_that_was_not_handed_over_has_told_nobody(stand: Stand) -> None:
    stand.broker.cut = True
    stand.heartbeat.send_heartbeat()
    stand.broker.cut = False

    stand.turn()

    assert stand.report().room == {ANY_QUEUE: 2}


class Beating:
    """A heart with a thread of its own."""

    def __init__(self, interval: float) -> None:
        clock = SystemClock()
        self.broker = CutBroker()
        self.controller = self.broker.subscribe([REPORTS], prefetch=1000)
        self.holdings = Holdings(Slots({ANY_QUEUE: 1}, ahead=0.1, ahead_limit=64), clock)
        self.noted = threading.Event()
        self.heartbeat = Heartbeat(
            WorkerCard("w", "host", 1, "0", {ANY_QUEUE: 1}),
            self.broker,
            worker=WORKER,
            holdings=self.holdings,
            sent=ReportLog(clock),
            interval=interval,
            heard=self.noted.set,
        )
        self.thread = threading.Thread(target=self.heartbeat.run)

    def hear(self, count: int) -> list[Report]:
        heard: list[Report] = []
        while len(heard) < count:
            taken = self.controller.take_deliveries(limit=count, timeout=10.0)
            assert taken, "the heart has stopped"
            heard += [delivery.message for delivery in taken if isinstance(delivery.message, Report)]
        return heard

    def end(self) -> None:
        self.heartbeat.stop()
        self.thread.join(10.0)
        assert not self.thread.is_alive()


def test_it_beats_at_a_steady_pace() -> None:
    beating = Beating(interval=0.05)
    beating.thread.start()

    numbers = [report.number for report in beating.hear(4)]

    beating.end()
    assert numbers == [1, 2, 3, 4]


def test_it_beats_three_times_in_a_lease_and_never_slower_than_it_was_told(stand: Stand) -> None:
    paces = []
    for lease in (15.0, 3.0, 6.0, 600.0):
        stand.heartbeat.keep_pace(lease)
        paces.append(stand.heartbeat.interval)

    assert paces == [5.0, 1.0, 2.0, 5.0]


def test_it_beats_faster_at_once_when_it_learns_of_a_short_lease() -> None:
    beating = Beating(interval=3600.0)
    beating.thread.start()

    beating.heartbeat.keep_pace(0.3)

    beating.hear(3)
    beating.end()


def test_it_is_noted_when_the_broker_has_taken_a_sign_of_life() -> None:
    beating = Beating(interval=3600.0)
    before = beating.noted.is_set()

    beating.heartbeat.send_heartbeat()

    assert not before
    assert beating.noted.wait(10.0)


def test_when_the_broker_is_back_it_beats_at_its_pace_although_nothing_is_confirmed_yet() -> None:
    beating = Beating(interval=3600.0)
    beating.broker.cut = True
    beating.heartbeat.send_heartbeat()
    beating.broker.cut = False
    # Taken, and confirmed much later.
    beating.heartbeat._note_confirmed = lambda refused: None  # type: ignore[method-assign]

    beating.thread.start()
    beating.hear(1)

    assert beating.controller.take_deliveries(limit=1, timeout=0.2) == []
    beating.end()


def test_a_hurried_heartbeat_does_not_wait_for_its_interval() -> None:
    beating = Beating(interval=1.0)
    beating.heartbeat.hurry_next()
    clock = SystemClock()
    began = clock.monotonic()
    beating.thread.start()

    beating.hear(1)

    assert clock.monotonic() - began < 0.9
    beating.end()


def test_what_found_no_connection_is_said_again_as_soon_as_there_is_one() -> None:
    beating = Beating(interval=3600.0)
    beating.broker.cut = True
    beating.heartbeat.send_heartbeat()
    beating.thread.start()

    clock = SystemClock()
    began = clock.monotonic()
    beating.broker.cut = False

    assert beating.hear(1)[0].number == 2
    assert clock.monotonic() - began < 0.9
    beating.end()


def test_stopping_does_not_wait_for_the_interval() -> None:
    beating = Beating(interval=3600.0)
    beating.thread.start()

    beating.end()
