"""Effects of a step of the machine: they are carried out in the transaction that saves the job. Imperative, by stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from echelon.controller.core.events import Spans
from echelon.controller.core.states import State


@dataclass(frozen=True, slots=True)
class ReleaseTasks:
    """Make a stage's tasks claimable: PENDING -> QUEUED, but for those that are paused."""

    stage: int
    #: It has run before, so that something of its tasks' last attempts may be there.
    again: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseSpawnTask:
    """Make a stage's spawn task claimable: PENDING -> QUEUED."""

    stage: int
    #: As in `ReleaseTasks`.
    again: bool = False


@dataclass(frozen=True, slots=True)
class WithdrawTasks:
    """End tasks of a stage that have not started (PENDING, QUEUED -> CANCELLED), the spawn task included."""

    stage: int
    #: Those that run as well (RUNNING -> CANCELLED); their workers are told.
    running: bool
    #: Why, in the words of the history: cancelled, fail_fast, job_failed.
    reason: str
    #: The person who did it; None: the engine.
    by: str | None = None


@dataclass(frozen=True, slots=True)
class RecallTasks:
    """Ask workers to give back what they hold of a stage and have not started; what has started goes on."""

    stage: int


@dataclass(frozen=True, slots=True)
class SkipTasks:
    """Let all tasks of a stage that have not completed count as done (-> SKIPPED), the spawn task included."""

    stage: int
    by: str


@dataclass(frozen=True, slots=True)
class ReopenTasks:
    """Make tasks that have ended run again (-> target), with fresh budgets."""

    stage: int
    target: State
    #: From these states.
    sources: frozenset[State]
    #: The spawn task too, from whatever end but COMPLETED.
    spawn: bool = False
    #: Which tasks; None: all.
    spans: Spans | None = None


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Let the tasks that a spawn task's list has made leave their stage, and the others run again (-> target)."""

    stage: int
    target: State
    #: The run that ends.
    run: int
    #: What is to be added to the number of its tasks from now on, for the index of the next.
    shift: int


@dataclass(frozen=True, slots=True)
class RestoreTasks:
    """Put tasks back in line that were cancelled by no person (CANCELLED -> target), the spawn task included."""

    stage: int
    target: State


@dataclass(frozen=True, slots=True)
class Remember:
    """Write a line of the job's history."""

    kind: str
    stage: int | None = None
    detail: Mapping[str, object] | None = None


Effect = (
    ReleaseTasks
    | ReleaseSpawnTask
    | WithdrawTasks
    | RecallTasks
    | SkipTasks
    | ReopenTasks
    | BeginRun
    | RestoreTasks
    | Remember
)


def list_reopened_stages(effects: Iterable[Effect]) -> list[int]:
    """Return the stages of which these effects, all carried out, have made tasks claimable that may have run before.

    Only then is it known what became of them in the same step: some may be withdrawn again.
    """
    found = {
        effect.stage
        for effect in effects
        if (isinstance(effect, ReopenTasks | BeginRun | RestoreTasks) and effect.target is State.QUEUED)
        or (isinstance(effect, ReleaseTasks | ReleaseSpawnTask) and effect.again)
    }
    return sorted(found)
