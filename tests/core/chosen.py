"""Tasks that a person chooses for a retry: ranges of several stages at once, by their states, or as a list of names."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from echelon.controller.core.events import Again, Spans
from echelon.controller.core.model import Job, Stage
from echelon.controller.core.states import ENDED, State
from tests.core.rows import SPAWN, Row, Rows

_ENDS = frozenset({State.FAILED, State.CANCELLED, State.SKIPPED})
#: What a choice may be meant for: what has failed, one state, a list of names, or all.
_MEANT = (
    frozenset({State.FAILED, State.CANCELLED}),
    *(frozenset({state}) for state in sorted(_ENDS | {State.RUNNING})),
    _ENDS | {State.RUNNING},
    ENDED | {State.RUNNING},
)
#: Most choices meet nothing that could run again.
_TRIES = 5


@dataclass(frozen=True)
class Chosen:
    """What a retry of chosen tasks is about."""

    #: (stage, index) of every task that is to run again, and of those that run now.
    tasks: frozenset[tuple[int, int]]
    running: tuple[tuple[int, int], ...]
    #: What of it has ended, by stage.
    agains: tuple[Again, ...]

    @property
    def stages(self) -> tuple[Again, ...]:
        """Return it with the stages of which something only runs."""
        return (*self.agains, *(Again(stage, {}) for stage, _ in self.running))


def choose(job: Job, rows: Rows, rng: random.Random) -> Chosen:
    """Return some tasks of some stages; none when several choices have met none."""
    chosen = _choose(job, rows, rng)
    for _ in range(_TRIES):
        chosen = chosen if chosen.tasks else _choose(job, rows, rng)
    return chosen


def _choose(job: Job, rows: Rows, rng: random.Random) -> Chosen:
    meant = rng.choice(_MEANT)
    tasks: set[tuple[int, int]] = set()
    agains = []
    for stage in rng.sample(job.stages, rng.randint(1, len(job.stages))):
        spans, spawn = _spans(rng, stage.next_index), rng.random() < 0.5
        mine = {
            index: row
            for (number, index), row in rows.items()
            if number == stage.number and row.shown in meant and _named(index, row, spans, spawn=spawn)
        }
        tasks |= {(stage.number, index) for index in mine}
        again = _again(stage, mine, spans)
        agains += [again] if again else []
    running = sorted(key for key in tasks if rows[key].state is State.RUNNING)
    return Chosen(frozenset(tasks), tuple(running), tuple(agains))


def _spans(rng: random.Random, total: int) -> Spans:
    """Return ranges with gaps between them."""
    kept = [index for index in range(total) if rng.random() < 0.6]
    spans: list[tuple[int, int]] = []
    for index in kept:
        if spans and spans[-1][1] + 1 == index:
            spans[-1] = (spans[-1][0], index)
        else:
            spans.append((index, index))
    return tuple(spans)


def _named(index: int, row: Row, spans: Spans, *, spawn: bool) -> bool:
    if index == SPAWN:
        # Its items are tasks already when it has completed.
        return spawn and row.state is not State.COMPLETED
    return any(first <= index <= last for first, last in spans)


def _again(stage: Stage, mine: Mapping[int, Row], spans: Spans) -> Again | None:
    ended = {index: row for index, row in mine.items() if row.state in ENDED}
    if not ended:
        # What is only killed would be withdrawn with the others.
        return Again(stage.number, {}, spans=spans) if mine and stage.failing else None
    tasks = [row for index, row in ended.items() if index != SPAWN]
    withdrawn = sum(row == Row(State.CANCELLED) for row in tasks)
    counts = dict(Counter(row.state for row in tasks))
    return Again(stage.number, counts, SPAWN in ended, withdrawn, spans)
