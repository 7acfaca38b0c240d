"""Which records of a list are wanted."""

from __future__ import annotations

from dataclasses import dataclass

from echelon.controller.core.states import State


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted, None or empty: any; and in which order."""

    states: tuple[State, ...] = ()
    type: str | None = None
    #: Text that the id, the type or an input value contains.
    text: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    updated_after: float | None = None
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks are wanted; None or empty: any."""

    stage: int | None = None
    states: tuple[State, ...] = ()
    #: Place in its stage; SPAWN_INDEX: the spawn task.
    index: int | None = None
    #: None: the present one of each stage.
    run: int | None = None
