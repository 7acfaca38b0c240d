"""A lease that ran out means a lost worker only when the worker could have been heard."""

from __future__ import annotations

import pytest

from echelon.controller.liveness.hearing import Hearing
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.lease import HANGS_PART, RETURN_TIME

LEASE = 20.0
HANGS = HANGS_PART * LEASE


class HeldClock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class CutBroker(MemoryBroker):
    """A broker whose connection can be cut."""

    cut = False

    @property
    def condition(self) -> str:
        return "connected" if self.connected else "away"

    @property
    def connected(self) -> bool:
        return not self.cut


class Stand:
    """A controller's ear, and time in a test's hands."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.broker = CutBroker()
        self.hearing = Hearing(self.broker, self.clock, lease=LEASE)

    def heard_after(self, seconds: float) -> float | None:
        self.clock.now += seconds
        with self.hearing.ask_store():
            return self.hearing.heard_for()


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def back(stand: Stand) -> Stand:
    """Return a stand whose controller hears workers again, after an outage."""
    stand.heard_after(0.0)
    stand.hearing.note_outage()
    stand.heard_after(1.0)
    return stand


def test_a_new_controller_calls_no_worker_lost_before_a_lease_has_passed(stand: Stand) -> None:
    assert not stand.hearing.is_able
    assert stand.heard_after(0.0) is None
    assert stand.hearing.is_able
    assert stand.heard_after(LEASE - 0.1) is None
    assert stand.heard_after(0.1) == pytest.approx(LEASE)


def test_after_an_outage_it_waits_for_as_long_as_workers_need_to_come_back(back: Stand) -> None:
    assert back.heard_after(LEASE + RETURN_TIME - 0.1) is None
    assert back.heard_after(0.1) == pytest.approx(LEASE + RETURN_TIME)


def test_leases_are_longer_after_an_outage_by_what_is_left_of_the_time_to_come_back(back: Stand) -> None:
    lengths = []
    for _ in range(3):
        lengths.append(back.hearing.extra_lease())
        back.clock.now += RETURN_TIME / 2

    assert lengths == [RETURN_TIME, RETURN_TIME / 2, 0.0]


def test_leases_are_longer_while_the_outage_lasts_but_not_before_the_first_look(stand: Stand) -> None:
    assert stand.hearing.extra_lease() == 0.0
    stand.heard_after(0.0)
    assert stand.hearing.extra_lease() == 0.0
    stand.hearing.note_outage()
    assert stand.hearing.extra_lease() == RETURN_TIME


def test_a_broker_that_is_away_is_an_outage_at_once(stand: Stand) -> None:
    stand.heard_after(0.0)
    stand.broker.cut = True
    assert not stand.hearing.is_able
    assert stand.heard_after(LEASE) is None
    stand.broker.cut = False
    assert stand.heard_after(LEASE) is None


def test_a_store_that_does_not_answer_is_an_outage_while_it_is_asked(stand: Stand) -> None:
    stand.heard_after(0.0)
    with stand.hearing.ask_store():
        stand.clock.now += HANGS
        assert stand.hearing.is_able
        stand.clock.now += 0.1
        assert not stand.hearing.is_able
    assert not stand.hearing.is_able, "the wait counts although the answer has come"


def test_answers_in_time_are_no_outage_however_many_there_are(stand: Stand) -> None:
    stand.heard_after(0.0)
    with stand.hearing.ask_store():
        for _ in range(5):
            stand.clock.now += HANGS
            stand.hearing.note_answer()
    stand.clock.now += 10 * HANGS

    assert stand.hearing.is_able, "nothing is asked any more"


def test_a_question_that_fails_after_a_long_wait_is_an_outage(stand: Stand) -> None:
    stand.heard_after(0.0)
    with pytest.raises(ValueError, match="a fault"), stand.hearing.ask_store():
        stand.clock.now += HANGS + 0.1
        raise ValueError("a fault")

    assert not stand.hearing.is_able


@pytest.mark.parametrize(("lasted", "able"), [(1.0 + HANGS, True), (1.1 + HANGS, False)])
def test_a_process_that_was_stopped_in_its_wait_heard_no_worker(stand: Stand, lasted: float, able: bool) -> None:
    stand.heard_after(0.0)
    begun = stand.clock.now
    stand.clock.now += lasted

    stand.hearing.note_wait(begun, 1.0)

    assert stand.hearing.is_able is able


def test_a_break_that_only_the_status_file_has_told_of_is_an_outage(stand: Stand) -> None:
    stand.heard_after(0.0)
    assert stand.heard_after(2 * LEASE) is not None
    stand.broker.cut = True
    assert not stand.hearing.is_able
    stand.broker.cut = False

    assert not stand.hearing.is_able, "it has not looked since"
    assert stand.heard_after(0.1) is None
    assert stand.hearing.extra_lease() == RETURN_TIME
