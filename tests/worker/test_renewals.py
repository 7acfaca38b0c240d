"""Heartbeats that are hurried, so that a worker that is heard loses no lease."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from echelon.shared.messages import ANY_QUEUE
from tests.worker.stand import Stand


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, slots={ANY_QUEUE: 2})


def test_a_late_renewal_hurries_the_next_heartbeat(stand: Stand) -> None:
    stand.run()
    beats = threading.Event()
    stand.heartbeat.hurry_next = beats.set  # type: ignore[method-assign]

    stand.turn(after=6.0)
    assert not beats.is_set()
    stand.turn(after=0.3)

    assert beats.is_set()


@pytest.mark.parametrize(("age", "hurried"), [(0.1, False), (0.72, True), (1.7, True)])
def test_a_grant_that_answers_an_old_report_hurries_the_heartbeat_that_renews_it(
    stand: Stand, age: float, hurried: bool
) -> None:
    """By its own pace the next one might be sent a second after the grant: too late for a lease that began before."""
    stand.lease = 3.0
    beats = threading.Event()
    stand.heartbeat.hurry_next = beats.set  # type: ignore[method-assign]
    stand.renew(answers=stand.beat().number)
    stand.turn()

    number = stand.beat().number
    stand.clock.now += age
    refs = stand.tasks()
    stand.grant(refs, answers=number)
    stand.turn()

    assert stand.executor.started == refs
    assert beats.is_set() == hurried


def test_a_worker_with_nothing_to_do_wakes_when_a_renewal_is_late_not_when_the_lease_ends(stand: Stand) -> None:
    stand.lease = 3.0
    stand.run()
    # The start has been told.
    stand.turn(after=0.1)

    stand.agent.turn(60.0)

    # A heartbeat is sent every second.
    assert stand.executor.wait == pytest.approx(1.15)
