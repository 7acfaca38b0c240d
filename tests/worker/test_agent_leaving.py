"""The worker's loop when it cannot work or shall not: sickness, shutdown, a broker that is away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from echelon.shared.broker.port import Outgoing
from echelon.shared.messages import ANY_QUEUE, Orders, Outcome, orders_queue
from tests.worker.stand import WORKER, Stand, finished, released

Make = Callable[..., Stand]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(**arguments: object) -> Stand:
        return Stand(tmp_path, **{"slots": {ANY_QUEUE: 2}, **arguments})  # type: ignore[arg-type]

    return build


def test_a_worker_that_cannot_do_its_part_asks_for_nothing_for_a_while(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    running, waiting = stand.run(2)
    stand.executor.end(running, Outcome.WORKER_FAULT)

    stand.turn()

    reports = stand.reports()
    assert released(reports) == [waiting]
    assert stand.executor.started == [running]
    assert stand.beat().room == {ANY_QUEUE: 0}
    stand.turn(after=1.1)
    assert stand.reports()[-1].room == {ANY_QUEUE: 1}


def test_a_worker_that_stays_sick_waits_longer_each_time(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    for _ in range(3):
        (ref,) = stand.run()
        stand.executor.end(ref, Outcome.WORKER_FAULT)
        stand.turn()
        assert stand.beat().room == {ANY_QUEUE: 0}
        stand.turn(after=1.1)
        waited = 1.1
        while stand.beat().room == {ANY_QUEUE: 0}:
            stand.turn(after=1.0)
            waited += 1.0

    assert waited > 3.0


def test_a_grant_that_reaches_a_sick_worker_is_handed_back(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    beat = stand.beat()
    (ref,) = stand.run()
    stand.executor.end(ref, Outcome.WORKER_FAULT)
    stand.turn()
    late = stand.tasks()
    stand.grant(late, answers=beat.number)

    stand.turn()

    assert released(stand.reports()) == late


def test_an_idle_worker_that_drains_says_goodbye_at_once(make: Make) -> None:
    stand = make()
    stand.beat()

    stand.agent.drain()
    stand.turn()
    stand.turn()

    assert stand.agent.done
    assert stand.reports()[-1].goodbye


def test_draining_hands_back_what_waits_and_lets_what_runs_finish(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    running, waiting = stand.run(2)

    stand.agent.drain()
    stand.turn()

    assert released(stand.reports()) == [waiting]
    assert not stand.agent.done
    beat = stand.beat()
    assert beat.card is not None and beat.card.draining
    assert beat.room == {ANY_QUEUE: 0}
    end = stand.executor.end(running)
    for _ in range(3):
        stand.turn()
    reports = stand.reports()
    assert finished(reports) == [end]
    assert reports[-1].goodbye and stand.agent.done
    assert stand.executor.stopped == []


def test_a_draining_worker_refuses_what_was_on_its_way(make: Make) -> None:
    stand = make()
    stand.run()
    refs = stand.tasks()
    stand.agent.drain()
    stand.turn()

    stand.grant(refs, answers=stand.beat().number)
    stand.turn()

    assert released(stand.reports()) == refs


def test_what_still_runs_after_the_drain_timeout_is_interrupted(make: Make) -> None:
    stand = make(drain_timeout=8.0)
    (ref,) = stand.run()
    stand.agent.drain()
    stand.turn()

    stand.turn(after=7.9)
    assert stand.executor.stopped == []
    stand.turn(after=0.2)

    assert stand.executor.stopped == [(ref, Outcome.INTERRUPTED, "the worker was shut down")]
    assert not stand.agent.done
    stand.executor.end(ref, Outcome.INTERRUPTED)
    for _ in range(3):
        stand.turn()
    assert stand.agent.done


def test_draining_twice_cuts_off_what_runs(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.agent.drain()
    stand.turn()
    assert stand.executor.stopped == []

    stand.agent.drain()
    stand.turn()

    assert stand.executor.stopped == [(ref, Outcome.INTERRUPTED, "the worker was shut down")]


def test_a_worker_that_cannot_reach_the_broker_leaves_all_the_same(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.broker.cut = True
    stand.executor.end(ref)
    stand.agent.drain()

    stand.turn()
    assert not stand.agent.done
    stand.turn(after=2.0)
    assert not stand.agent.done
    stand.turn(after=3.1)

    assert stand.agent.done


def test_a_broker_that_is_slow_to_confirm_is_waited_for(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.broker.slow = True
    end = stand.executor.end(ref)
    stand.agent.drain()
    for seconds in (0.0, 5.1, 5.0):
        stand.turn(after=seconds)
        assert not stand.agent.done

    stand.broker.confirm_late()
    for _ in range(3):
        stand.turn()

    reports = stand.reports()
    assert finished(reports) == [end]
    assert reports[-1].goodbye and stand.agent.done
    assert "may run again" not in caplog.text


@pytest.mark.parametrize("hurry", [False, True])
def test_a_broker_that_never_confirms_does_not_keep_a_worker(
    make: Make, caplog: pytest.LogCaptureFixture, hurry: bool
) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.broker.slow = True
    stand.executor.end(ref)
    stand.agent.drain()
    stand.turn()
    stand.turn(after=5.1)
    left_early = stand.agent.done

    if hurry:
        stand.agent.drain()
    stand.turn(after=0.1 if hurry else 15.1)

    assert (left_early, stand.agent.done) == (False, True)
    assert "may run again" in caplog.text


def test_running_attempts_outlive_a_broker_that_is_away(make: Make) -> None:
    stand = make()
    (ref,) = stand.run()
    stand.broker.cut = True
    stand.turn(after=5.0)
    end = stand.executor.end(ref)
    stand.turn(after=1.0)

    stand.broker.cut = False
    stand.turn(after=5.0)

    assert stand.executor.stopped == []
    assert finished(stand.reports()) == [end]


def test_an_order_to_drain_lets_what_runs_end_however_often_it_comes(make: Make) -> None:
    stand = make(slots={ANY_QUEUE: 1})
    running, waiting = stand.run(2)
    for _ in range(3):
        order = Orders(worker=WORKER, number=0, answers=0, lease=15.0, drain=True)
        stand.broker.publish([Outgoing(orders_queue(WORKER), order)])
        stand.turn()

    assert waiting in released(stand.reports())
    card = stand.beat().card
    assert card is not None and card.draining
    assert stand.executor.running, "a repeated order ends nothing"
    stand.executor.end(running)
    for _ in range(5):
        stand.turn()
    assert stand.agent.done
