"""The rule about the numbers of attempts finds what it is there for, each in the smallest history."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.simulation import rules_tasks
from tests.simulation.history import Entry, History, Run
from tests.simulation.index import Index


def judge(told: Mapping[int, int], outcomes: Mapping[int, str], *, late_ledger: bool = False) -> list[str]:
    """Judge a task: claim -> the number that its process was told, and claim -> how the attempt ended."""
    claims = sorted(told.keys() | outcomes.keys())
    history = History(
        jobs=[{"key": 0, "job_id": "a"}], stages=[{"key": 0, "job": 0, "number": 0}],
        tasks=[{"key": 0, "task_id": "t", "stage": 0, "idx": 0}],
        attempts=[
            {"job": 0, "number": claim, "task": 0, "attempt": claim, "outcome": outcome}
            for claim, outcome in outcomes.items()
        ],
        events=[], workers={}, lives={}, asked=[], editions={}, files={},
        ledger=[Run("a", "t", 0, 0, claim, number, "w", "r", "e", "", float(claim)) for claim, number in told.items()],
        diary=[
            Entry(claim, float(claim), "task", 0, "QUEUED", "RUNNING", attempt=claim, lease_until=claim + 15.0)
            for claim in claims
        ],
        calm_from=0.0, ended=0.0, late_ledger=late_ledger,
    )  # fmt: skip
    return list(rules_tasks.numbered(Index(history)))


@pytest.mark.parametrize(
    ("told", "outcomes"),
    [
        ({1: 1, 2: 2}, {1: "failed", 2: "completed"}),
        # The first two claims were handed back.
        ({3: 1}, {3: "completed"}),
        ({2: 2}, {1: "not_started", 2: "completed"}),
    ],
)
def test_attempts_that_are_numbered_by_their_starts_break_no_rule(
    told: Mapping[int, int], outcomes: Mapping[int, str]
) -> None:
    assert judge(told, outcomes) == judge(told, outcomes, late_ledger=True) == []


@pytest.mark.parametrize(
    ("told", "outcomes"),
    [
        ({1: 2}, {1: "completed"}),
        ({1: 1, 2: 3}, {1: "failed", 2: "completed"}),
        ({1: 1, 2: 1}, {1: "failed", 2: "completed"}),
        ({2: 2}, {1: "failed", 2: "completed"}),
    ],
)
def test_a_number_that_no_process_had_is_found(told: Mapping[int, int], outcomes: Mapping[int, str]) -> None:
    assert len(judge(told, outcomes)) == len(judge(told, outcomes, late_ledger=True)) == 1


@pytest.mark.parametrize("outcome", ["lost", "stopped", "interrupted"])
def test_a_process_may_be_ended_before_it_has_written_a_line_but_is_an_attempt(outcome: str) -> None:
    told, outcomes = {2: 2}, {1: outcome, 2: "completed"}

    assert judge(told, outcomes, late_ledger=True) == []
    assert len(judge(told, outcomes)) == 1
    assert len(judge({2: 3}, outcomes, late_ledger=True)) == 1
