"""FairLock for threads that compute: few at once, in the order of their coming, and nobody stopped for long."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from echelon.controller.fair_lock import FairLock
from tests.system.process import until

#: Longer than any test takes; and no time at all.
FOREVER, NONE = 600.0, 0.0
MUCH = bytes(1 << 20)


class Visitor(threading.Thread):
    """A thread that takes a turn, tells so, and gives it back when it is let go."""

    def __init__(self, turns: FairLock, seen: list[Visitor]) -> None:
        super().__init__(daemon=True)
        self.let_go = threading.Event()
        self._turns = turns
        self._seen = seen
        self.start()

    def run(self) -> None:
        self._turns.acquire()
        self._seen.append(self)
        self.let_go.wait(FOREVER)
        self._turns.release()


@pytest.fixture
def visit() -> Iterator[Callable[[FairLock, list[Visitor]], Visitor]]:
    visitors: list[Visitor] = []

    def make(turns: FairLock, seen: list[Visitor]) -> Visitor:
        visitors.append(Visitor(turns, seen))
        return visitors[-1]

    yield make
    for one in visitors:
        one.let_go.set()
    for one in visitors:
        one.join(60.0)
        assert not one.is_alive()


Visit = Callable[[FairLock, list[Visitor]], Visitor]


def test_the_others_come_in_the_order_in_which_they_stand_in_line(visit: Visit) -> None:
    turns, seen = FairLock(1, patience=FOREVER), list[Visitor]()
    came = [visit(turns, seen)]
    until(lambda: seen == came, "the first has its turn")
    for number in range(1, 6):
        came.append(visit(turns, seen))
        until(lambda number=number: len(turns._line) == number, "it stands in line")  # type: ignore[misc]

    for number in range(6):
        until(lambda number=number: len(seen) > number, "somebody's turn comes")  # type: ignore[misc]
        assert seen == came[: number + 1]
        came[number].let_go.set()


def test_never_more_compute_at_once_than_may_however_they_come_and_go() -> None:
    turns, most, inside, lock = FairLock(3, patience=FOREVER), [0], [0], threading.Lock()

    @contextmanager
    def counted() -> Iterator[None]:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        yield
        with lock:
            inside[0] -= 1

    def come_and_go() -> None:
        for _ in range(100):
            turns.acquire()
            with counted():
                # Without Python's lock, so that they do meet.
                hashlib.sha256(MUCH)
            turns.release()

    threads = [threading.Thread(target=come_and_go) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)

    assert not any(thread.is_alive() for thread in threads)
    assert most[0] == 3
    assert turns._free == 3 and not turns._line


def test_who_has_waited_long_enough_goes_on_without_a_turn_and_gives_none_back(visit: Visit) -> None:
    turns, seen = FairLock(1, patience=NONE), list[Visitor]()
    first = visit(turns, seen)
    until(lambda: seen == [first], "the first has its turn")

    second = visit(turns, seen)
    until(lambda: second in seen, "the second goes on")
    second.let_go.set()
    second.join(60.0)

    assert (turns._free, len(turns._line)) == (0, 0)
    first.let_go.set()
    first.join(60.0)
    assert turns._free == 1


def test_a_turn_is_given_back_once(visit: Visit) -> None:
    turns = FairLock(1, patience=FOREVER)
    turns.release()
    turns.acquire()
    turns.release()
    turns.release()

    assert turns._free == 1
