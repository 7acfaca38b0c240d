"""The rules about chosen tasks and their secrets find what they are there for, each in the smallest history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Changed, Choice, Retried, RetriedTask
from echelon.shared.ids import TaskId
from tests.simulation import rules_choices as rules
from tests.simulation.deeds import Deeds
from tests.simulation.history import Entry, History, Run
from tests.simulation.index import Index
from tests.simulation.witness import Look, Seen, TaskRow, Wish

ROW = TaskRow("a", 0, 0, "FAILED", None, 3, 1, 1, 0, None, None, "exit code 1")
#: The same after a retry.
AGAIN = ROW._replace(state="QUEUED", etag=4, failures=0, error=None)
RETRY = Wish(1, Verb.RETRY, ("job",), named={"a": 3, "b": 7}, listed=True)
B = ROW._replace(task_id="b", index=1, etag=9)
RUNS = ROW._replace(state="RUNNING")
PAUSED = ROW._replace(state="PENDING", by="me")
HELD = ROW._replace(state="CANCELLED", by="me")


def seen(wish: Wish, before: Sequence[TaskRow], after: Sequence[TaskRow], *, etag: int = 1, seal: int = 2) -> Seen:
    """Return what a commit did to the tasks of a job that had ended."""
    was = Look("FAILED", seal, etag, {row.task_id: row for row in before})
    now = Look("RUNNING", seal + 1, etag + 1, {row.task_id: row for row in after})
    return Seen(wish, "job", was, now, seq=5)


def test_a_list_of_which_exactly_what_was_named_with_its_present_etag_runs_again_breaks_no_rule() -> None:
    commit = seen(RETRY, [ROW, B], [AGAIN, B])
    answer = Retried(
        (RetriedTask(TaskId("a"), None, State.FAILED), RetriedTask(TaskId("b"), "it has changed", State.FAILED))
    )

    assert [*rules.etags([commit]), *rules.chosen([commit])] == []
    assert list(rules.told(Deeds(seen=[commit], answers=[(RETRY, answer)]))) == []


@pytest.mark.parametrize(
    ("wish", "before", "after", "said"),
    [
        (RETRY, B, B._replace(state="QUEUED", etag=10, failures=0), "was not meant"),
        (RETRY, ROW, ROW, "was chosen"),
        (RETRY, ROW, AGAIN._replace(by="me"), "was chosen"),
        (RETRY, ROW._replace(state="COMPLETED"), AGAIN, "was not meant"),
        (RETRY, ROW._replace(attempt=0), AGAIN, "was not meant"),
        (RETRY, ROW._replace(seal_number=1), AGAIN, "was not meant"),
        (replace(RETRY, named={}, choice=Choice(spans=((1, 2),))), ROW, AGAIN, "was not meant"),
        (replace(RETRY, named={}, choice=Choice(state=State.CANCELLED)), ROW, AGAIN, "was not meant"),
        (replace(RETRY, named={}, stage=1, choice=Choice(state=State.FAILED)), ROW, AGAIN, "was not meant"),
        (replace(RETRY, named={}, choice=Choice(state=State.FAILED)), ROW, ROW, "was chosen"),
        (replace(RETRY, named={"b": None}), PAUSED, PAUSED._replace(by=None, etag=4), "was not meant"),
        (replace(RETRY, named={"b": None}), HELD, HELD._replace(state="PENDING", by=None, etag=5), "was not meant"),
        (replace(RETRY, verb=Verb.SKIP), ROW, AGAIN, "was chosen"),
        (replace(RETRY, verb=Verb.PAUSE), ROW, ROW._replace(by="me"), "was not meant"),
        (replace(RETRY, verb=Verb.CANCEL), RUNS, RUNS._replace(state="CANCELLED"), "was chosen"),
    ],
)
def test_what_was_not_chosen_and_changes_and_what_was_and_does_not_is_found(
    wish: Wish, before: TaskRow, after: TaskRow, said: str
) -> None:
    (complaint,) = rules.chosen([seen(wish, [before], [after])])

    assert said in complaint


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ROW._replace(state="QUEUED"), ROW._replace(state="CANCELLED")),
        (ROW._replace(state="CANCELLED"), ROW._replace(state="PENDING", failures=0)),
        (ROW._replace(state="PENDING"), ROW._replace(state="QUEUED")),
        # It is no more paused when it comes back in the same moment.
        (PAUSED, PAUSED._replace(by=None, etag=5)),
    ],
)
def test_what_follows_for_others_from_the_end_or_the_return_of_their_job_is_no_choice(
    before: TaskRow, after: TaskRow
) -> None:
    wish = replace(RETRY, named={"b": None})

    assert list(rules.chosen([seen(wish, [before], [after])])) == []


def test_an_old_etag_that_changes_something_and_a_change_under_the_same_etag_are_found() -> None:
    wish = replace(RETRY, named={}, listed=False, etag=1)
    right, stale = seen(wish, [ROW], [AGAIN], etag=1), seen(wish, [ROW], [AGAIN], etag=2)
    silent = seen(wish, [ROW], [AGAIN._replace(etag=3)])

    assert list(rules.etags([right])) == []
    assert ["carried out with the etag 1" in one for one in rules.etags([stale])] == [True]
    assert ["kept its etag" in one for one in rules.etags([silent])] == [True]


@pytest.mark.parametrize(
    "answer",
    [
        Retried((RetriedTask(TaskId("a")), RetriedTask(TaskId("b")))),
        Retried((RetriedTask(TaskId("a"), "no"), RetriedTask(TaskId("b"), "no"))),
        Retried((RetriedTask(TaskId("a")),)),
        Changed(tasks=2),
    ],
)
def test_an_answer_that_says_something_else_than_what_happened_is_found(answer: object) -> None:
    commit = seen(RETRY, [ROW, B], [AGAIN, B])

    assert len(list(rules.told(Deeds(seen=[commit], answers=[(RETRY, answer)])))) == 1


def ran_with(token: str, *, claimed: int) -> Index:
    """Return a history in which a task with a secret of its own, the job's first was `first`, ran once."""
    run = Run("job", "a", 0, 0, 2, 2, "life", "r", "e", token, 1.0)
    line = Entry(claimed, 1.0, "task", 9, "QUEUED", "RUNNING", 2, 1, 20.0)
    return Index(
        History(
            jobs=[{"key": 1, "job_id": "job", "type": "mine", "secret": "[]", "input": "{}"}],
            stages=[{"key": 1, "job": 1, "number": 0, "spawn": None}],
            tasks=[{"key": 9, "task_id": "a", "stage": 1, "idx": 0, "input": "{}"}],
            attempts=[], events=[], workers={}, diary=[line], ledger=[run], lives={}, asked=[], editions={}, files={},
            calm_from=0.0, ended=2.0,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("token", "claimed", "fits"),
    [("first", 4, True), ("again", 4, False), ("", 6, False)],
)
def test_an_attempt_with_another_secret_than_its_own_is_found(token: str, claimed: int, fits: bool) -> None:
    deeds = Deeds(composed={"mine": {(0, 0): "first"}})

    assert (list(rules.secrets(ran_with(token, claimed=claimed), deeds)) == []) is fits


def test_values_that_change_are_found() -> None:
    changed = seen(RETRY, [ROW._replace(values="old")], [AGAIN._replace(values="new")])
    deeds = Deeds(seen=[changed], composed={"mine": {(0, 0): "first"}})

    found = list(rules.secrets(ran_with("first", claimed=4), deeds))

    assert ["has other values than before" in one for one in found] == [True]
