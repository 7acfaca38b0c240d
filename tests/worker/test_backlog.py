"""Which of a worker's waiting attempts starts next."""

from __future__ import annotations

import math
import random

import pytest

from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import AttemptRef, Grant, GrantedTask, Recipe
from echelon.worker.backlog import Backlog, HeldAttempt

RECIPE = Recipe("step", "true")


def attempt(job: str, name: str, *, priority: int = 0, queue: str = "default", arrived: float = 0.0) -> HeldAttempt:
    task = GrantedTask(TaskId(name), 1, 0)
    grant = Grant(JobId(job), 0, "Stage", "r1", queue, RECIPE, {}, {}, (task,), priority=priority)
    return HeldAttempt(AttemptRef(task.task_id, 1), grant, task, arrived, math.inf, 15.0, 1.0)


def take_names(backlog: Backlog, count: int = 100, *queues: str) -> list[str]:
    """Take attempts of these queues (none: of all); return their names."""
    names = []
    while len(names) < count:
        taken = backlog.take_next(lambda queue: "pool" if not queues or queue in queues else None)
        if taken is None:
            break
        names.append(taken[0].ref.task_id)
    return names


def filled(*attempts: HeldAttempt) -> Backlog:
    backlog = Backlog()
    for one in attempts:
        backlog.add_attempt(one)
    return backlog


def test_jobs_of_equal_priority_alternate() -> None:
    backlog = filled(*(attempt("a", f"a{number}") for number in range(4)), attempt("b", "b0"), attempt("b", "b1"))

    assert take_names(backlog) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_a_job_that_arrives_waits_for_one_attempt_of_each_other_job() -> None:
    backlog = filled(*(attempt("a", f"a{number}") for number in range(4)))
    assert take_names(backlog, 2) == ["a0", "a1"]

    backlog.add_attempt(attempt("b", "b0"))

    assert take_names(backlog, 2) == ["a2", "b0"]


def test_a_stream_of_new_jobs_does_not_hold_up_an_old_one() -> None:
    backlog = filled(*(attempt("a", f"a{number}") for number in range(3)))
    names = []
    for number in range(6):
        backlog.add_attempt(attempt(f"job{number}", f"new{number}"))
        names += take_names(backlog, 1)

    assert [name for name in names if name.startswith("a")] == ["a0", "a1", "a2"][
        : sum(n.startswith("a") for n in names)
    ]
    assert sum(name.startswith("a") for name in names) >= 2


def test_a_higher_priority_starts_first_however_late_it_arrives() -> None:
    backlog = filled(attempt("a", "a0"), attempt("b", "b0", priority=5), attempt("a", "a1"))

    backlog.add_attempt(attempt("c", "c0", priority=9))

    assert take_names(backlog) == ["c0", "b0", "a0", "a1"]


def test_an_attempt_without_a_free_slot_holds_up_no_other_queue() -> None:
    backlog = filled(attempt("a", "a0", priority=9, queue="gpu"), attempt("b", "b0"))

    assert take_names(backlog, 1, "default") == ["b0"]
    assert take_names(backlog, 1, "default") == []
    assert take_names(backlog, 1, "gpu") == ["a0"]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_or_counted_twice(seed: int) -> None:
    rng = random.Random(seed)
    backlog, there, moment = Backlog(), [], 0.0
    for number in range(200):
        moment += 1.0
        if rng.random() < 0.6 or not there:
            held = attempt(
                rng.choice("abc"), f"t{number}", priority=rng.choice([0, 0, 4]), queue=rng.choice("xy"), arrived=moment
            )
            backlog.add_attempt(held)
            there.append(held)
        elif rng.random() < 0.5:
            taken = backlog.take_next(lambda queue: queue)
            assert taken is not None
            there.remove(taken[0])
        else:
            held = there.pop(rng.randrange(len(there)))
            backlog.remove_attempt(held)

        assert sum(backlog.count_waiting().values()) == len(there)
        assert sum(backlog.count_waiting(least=1).values()) == sum(held.grant.priority > 0 for held in there)
        assert backlog.oldest_arrival() == min((held.arrived for held in there), default=None)
        assert backlog.list_priorities() == sorted({held.grant.priority for held in there}, reverse=True)
        until = moment - 20
        assert {id(held) for held in backlog.find_arrived(until)} == {id(h) for h in there if h.arrived <= until}
