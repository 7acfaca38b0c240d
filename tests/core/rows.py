"""Jobs to play with, and tasks as the store would have them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from echelon.controller.core.model import Job, OnError, Source, Stage, Tally
from echelon.controller.core.states import State, show_state
from echelon.shared.ids import JobId

SPAWN = -1


def random_job(rng: random.Random) -> Job:
    """Return a job of up to five stages, some of equal order, with every kind of source and policy."""
    stages = []
    order = 0
    for number in range(rng.randint(1, 5)):
        order += rng.choice([0, 1, 1, 1])
        source = rng.choice([Source.FIXED, Source.FIXED, Source.SPAWN, Source.OPEN])
        spawns = source is Source.SPAWN
        fixed = rng.randint(0, 4) if source is Source.FIXED else 0
        stages.append(
            Stage(
                number=number,
                order=order,
                name=f"stage {number}",
                source=source,
                on_error=rng.choice(list(OnError)),
                fail_fast=rng.random() < 0.3,
                max_parallel=rng.choice([None, None, 1, 2]),
                max_failed=rng.choice([None, None, 0, 1, 2, "30%", "50%"]),
                tally=Tally() if spawns else Tally(pending=fixed),
                spawn=State.PENDING if spawns else None,
                expected=None if spawns else fixed,
                by="catalogue" if rng.random() < 0.1 else None,
            )
        )
    return Job(JobId("job"), State.PENDING, tuple(stages), by="submission" if rng.random() < 0.1 else None)


@dataclass(frozen=True)
class Row:
    """A task as the store would have it."""

    state: State
    #: Paused, cancelled or skipped by a person.
    hand: bool = False
    #: What is RUNNING has started; else its worker only holds it.
    started: bool = False

    @property
    def shown(self) -> State:
        """Return its state as people see it."""
        return show_state(self.state, started=self.started)

    @property
    def given(self) -> bool:
        """Tell whether it waits at its worker."""
        return self.state is State.RUNNING and not self.started


#: (stage, index) -> its task.
Rows = dict[tuple[int, int], Row]


def assert_path(table: dict[State, frozenset[State]], source: State, target: State) -> None:
    """Check that a state may follow another, in one or more allowed steps of one turn."""
    reached, edge = {source}, {source}
    while edge:
        edge = {after for state in edge for after in table[state]} - reached
        reached |= edge
    assert target in reached
