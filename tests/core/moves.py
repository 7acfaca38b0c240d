"""Changes of task rows, as the table of states allows them."""

from __future__ import annotations

from echelon.controller.core.answers import Allowed, Kind, Verb, answer_verb
from echelon.controller.core.model import Stage
from echelon.controller.core.states import TASK_TRANSITIONS, State
from tests.core.rows import SPAWN, Row, Rows


def may(kind: Kind, state: State, verb: Verb, paused: bool) -> bool:
    """Tell whether a verb is allowed."""
    return isinstance(answer_verb(kind, state, verb, paused=paused), Allowed)


class Moves:
    """Task rows that change."""

    rows: Rows
    #: Tasks whose last attempt was ended by hand and may still be there.
    there: set[tuple[int, int]]
    #: Tasks that workers were asked to give back unless they have started.
    recalled: set[tuple[int, int]]
    #: Tasks that a person added, and those that earlier runs have left behind.
    added: set[tuple[int, int]]
    left: set[tuple[int, int]]

    def _release(self, stage: int, *, spawn: bool) -> None:
        if spawn:
            self._set(stage, SPAWN, State.QUEUED)
        else:
            self._move(stage, {State.PENDING}, State.QUEUED, hand=False, spawn=False)

    def _begin_run(self, stage: int, target: State) -> None:
        """Let the tasks of a list leave their stage, and the others run again."""
        for key, row in [(key, row) for key, row in self.rows.items() if key[0] == stage]:
            assert row.state is not State.RUNNING and key not in self.there, f"task {key} may still run"
            if key[1] == SPAWN or key in self.added:
                self.rows[key] = Row(target)
            else:
                del self.rows[key]
                self.left.add(key)

    def _insert(self, stage: Stage, place: int, row: Row) -> tuple[int, int]:
        key = (stage.number, stage.next_index + place)
        assert key not in self.rows and key not in self.left, f"task {key} is there already"
        self.rows[key] = row
        return key

    def _rows(self, stage: int, *states: State) -> list[int]:
        tasks = ((index, row) for (number, index), row in self.rows.items() if number == stage and index >= 0)
        return sorted(index for index, row in tasks if row.state in states)

    def _set(self, stage: int, index: int, target: State, *, hand: bool | None = None) -> None:
        row = self.rows[stage, index]
        if row.state is State.RUNNING and target in (State.CANCELLED, State.SKIPPED):
            self.there.add((stage, index))
        assert target is not State.RUNNING or (stage, index) not in self.there, "two attempts at once"
        assert target in TASK_TRANSITIONS[row.state], f"task {stage}.{index}: {row.state} -> {target}"
        assert target is not State.QUEUED or not (row.hand and row.state is State.PENDING), "a paused task is queued"
        self.recalled.discard((stage, index))
        self.rows[stage, index] = Row(target, (row.hand and target is State.RUNNING) if hand is None else hand)

    def _move(
        self,
        stage: int,
        sources: set[State],
        target: State,
        *,
        hand: bool | None = None,
        becomes: bool = False,
        spawn: bool = True,
        spans: tuple[tuple[int, int], ...] | None = None,
    ) -> None:
        """Move all tasks of a stage in some states, that a person has a hand on or (None) whether or not."""
        for (number, index), row in list(self.rows.items()):
            chosen = spans is None or any(first <= index <= last for first, last in spans)
            chosen = chosen and number == stage and (spawn or index != SPAWN) and (hand is None or row.hand is hand)
            if chosen and row.state in sources:
                self._set(number, index, target, hand=becomes)
