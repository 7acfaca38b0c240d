"""The rules about the order among jobs find what they are there for, each in the smallest history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.simulation import rules_turns as rules
from tests.simulation.history import Entry, History, Taken
from tests.simulation.index import Index

JOBS = "abc"


def judge(
    line: Sequence[tuple[int, int, int, str, int]], claims: Sequence[tuple[int, int]], *, lost: int | None = None
) -> list[str]:
    """Judge the claims of stages, each as (transaction, stage). Job n has stage n with task n; `lost` is a suspect."""
    history = History(
        jobs=[{"key": key, "job_id": name} for key, name in enumerate(JOBS)],
        stages=[{"key": key, "job": key, "place": 0, "task_class": "quick"} for key in range(len(JOBS))],
        tasks=[{"key": key, "task_id": f"task {key}", "stage": key} for key in range(len(JOBS))],
        attempts=[], events=[], workers={}, ledger=[], lives={}, asked=[], editions={}, files={},
        diary=[
            Entry(seq, float(turn), "task", stage, "QUEUED", "RUNNING", turn=turn, losses=2 if stage == lost else 0)
            for seq, (turn, stage) in enumerate(claims)
        ],
        calm_from=0.0, ended=0.0, line=line,
    )  # fmt: skip
    return list(rules.claimed_in_turns(Index(history)))


EQUAL = [(1, 0, 1, "q", 0), (1, 1, 1, "q", 0)]
HIGHER = [(1, 0, 1, "q", 5), (1, 1, 1, "q", 0)]


@pytest.mark.parametrize(
    ("line", "claims"),
    [
        (EQUAL, [(2, 1), (3, 0), (4, 1), (5, 0)]),
        (EQUAL, [(2, 1), (2, 0), (2, 1), (3, 0), (4, 1)]),
        # The first has nothing to claim any more, and comes back.
        ([*EQUAL, (3, 0, 0, "q", 0), (4, 0, 1, "q", 0)], [(2, 1), (3, 1), (4, 1), (5, 1)]),
        ([(1, 0, 1, "q", 0), (1, 1, 1, "other", 0)], [(2, 1), (3, 1)]),
        (HIGHER, [(2, 0), (3, 0), (4, 0)]),
        ([*HIGHER, (3, 0, 0, "q", 5)], [(2, 0), (3, 1)]),
    ],
)
def test_claims_in_turns_break_no_rule(
    line: Sequence[tuple[int, int, int, str, int]], claims: Sequence[tuple[int, int]]
) -> None:
    assert judge(line, claims) == []


@pytest.mark.parametrize(
    ("line", "claims", "said"),
    [
        (EQUAL, [(2, 1), (3, 1)], "1 tasks in transaction 3, grant 2"),
        (EQUAL, [(2, 1), (2, 1)], "2 tasks in transaction 2, grant 1"),
        (HIGHER, [(2, 1)], "1 tasks in transaction 2, grant 1"),
        # It has become the higher one.
        ([*EQUAL, (3, 0, 1, "q", 9)], [(2, 1), (4, 1)], "1 tasks in transaction 4, grant 1"),
    ],
)
def test_claims_out_of_turn_are_found(
    line: Sequence[tuple[int, int, int, str, int]], claims: Sequence[tuple[int, int]], said: str
) -> None:
    (complaint,) = judge(line, claims)

    assert complaint.startswith("job b") and said in complaint
    assert judge(line, claims, lost=claims[0][1]) == []


A, B = Taken("a", "q", 0, 0), Taken("b", "q", 0, 0)


@pytest.mark.parametrize(
    ("taken", "found"),
    [
        ([A, B, A, B], 0),
        ([A, A, B], 1),
        # It came only then.
        ([A, A, replace(B, place=1)], 0),
        ([A, A, replace(B, queue="other")], 0),
        ([A, replace(B, priority=1)], 1),
        ([replace(A, priority=1), replace(A, priority=1), B], 0),
    ],
)
def test_slots_are_taken_in_turns_by_what_waits_at_a_worker(taken: Sequence[Taken], found: int) -> None:
    history = History([], [], [], [], [], {}, [], [], {}, [], {}, {}, 0.0, 0.0, taken={"life": taken})

    assert len(list(rules.started_in_turns(Index(history)))) == found
