"""Requests to the engine, as records, and its refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from echelon.controller.core.events import Spans
from echelon.controller.core.states import State
from echelon.shared.errors import InvalidInput, Unavailable
from echelon.shared.ids import TaskId
from echelon.shared.messages import JsonValue

_SPAN = re.compile(r"(\d{1,8})(?:-(\d{1,8}))?", re.ASCII)
MOST_SPANS = 1_000


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to run a job."""

    type: str
    input: Mapping[str, JsonValue]
    #: Header names as sent; each with every value it was sent with.
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    idempotency_key: str | None = None
    request_id: str | None = None
    #: As the client says.
    user: str | None = None
    #: Accepted, but not begun until it is resumed.
    paused: bool = False
    #: From 0 to 9; None: the definition's.
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Composition:
    """A request to run a job that is in no catalogue."""

    name: str
    #: A list of stages, as `echelon.controller.catalogue.inline` reads it.
    stages: object
    idempotency_key: str | None = None
    request_id: str | None = None
    #: As the client says.
    user: str | None = None
    #: Accepted, but not begun until it is resumed.
    paused: bool = False
    #: From 0 to 9; None: 0.
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Prune:
    """A request to remove jobs that ended long ago."""

    #: Seconds since their end.
    older_than: float
    type: str | None = None
    dry_run: bool = False
    #: Key of the last job that an earlier request has looked at.
    after: int = -1


@dataclass(slots=True)
class Pruned:
    """The part of them that one request has removed or measured."""

    jobs: int = 0
    bytes: int = 0
    #: Key of the last job; None: there are no more.
    next: int | None = None


@dataclass(frozen=True, slots=True)
class Who:
    """The sender of a request."""

    #: The X-Request-ID: names one request in every log.
    request_id: str | None = None
    #: As the client says.
    user: str | None = None

    @property
    def name(self) -> str:
        """Return how the history and `why` speak of it."""
        if self.user:
            return self.user
        return f"request {self.request_id}" if self.request_id else "somebody"


#: A request without an author.
SOMEBODY = Who()


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tasks of a job or a stage a verb is meant for. Without `state` and `spans`: the job or stage itself."""

    state: State | None = None
    #: Ranges of indexes, as `index_spans` reads them.
    spans: Spans | None = None
    #: Of a retry: only what has failed or was cancelled. False: what has completed too, and what runs is killed first.
    only_failed: bool = True
    #: Of a retry: the stages behind begin their next run.
    downstream: bool = False

    @property
    def of_tasks(self) -> bool:
        """Tell whether single tasks are meant, and not the whole."""
        return self.state is not None or self.spans is not None


#: A whole job or stage.
WHOLE = Choice()


@dataclass(frozen=True, slots=True)
class Given:
    """Values that a request brings for a job that it opens again: secrets were erased when the job ended."""

    input: Mapping[str, JsonValue] = field(default_factory=dict)
    #: Header names as sent; each with every value it was sent with.
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnchangedGroup:
    """Objects that a verb did not change, and the reason."""

    reason: str
    count: int
    #: Only of tasks.
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """The result of a verb."""

    #: How many tasks it changed; spawn tasks are counted.
    tasks: int = 0
    #: How many stages, and jobs, it changed themselves and not only by their tasks.
    stages: int = 0
    jobs: int = 0
    unchanged: tuple[UnchangedGroup, ...] = ()
    #: Of a retry: later stages that have run and were not run again.
    stale: int = 0

    @property
    def hint(self) -> str | None:
        """Return what people may not expect of it."""
        if not self.stale:
            return None
        stages, were = ("later stage", "was") if self.stale == 1 else ("later stages", "were")
        return f"{self.stale} {stages} ran before this and {were} not run again"

    def __add__(self, other: Changed) -> Changed:
        """Return both together."""
        left: dict[tuple[str, State | None], int] = {}
        for one in (*self.unchanged, *other.unchanged):
            left[one.reason, one.state] = left.get((one.reason, one.state), 0) + one.count
        unchanged = tuple(UnchangedGroup(reason, count, state) for (reason, state), count in left.items())
        return Changed(
            self.tasks + other.tasks, self.stages + other.stages, self.jobs + other.jobs, unchanged,
            self.stale + other.stale,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RetriedTask:
    """The result of a verb for one task of a list."""

    task_id: TaskId
    #: Why it was not changed; None: it was.
    reason: str | None = None
    #: Its state before; None: there is no such task.
    state: State | None = None

    @property
    def changed(self) -> bool:
        """Tell whether it was changed."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Retried:
    """The result of a retry of a list of tasks, in the order of the request."""

    tasks: tuple[RetriedTask, ...]
    #: The changes of the stages behind them.
    behind: Changed = Changed()

    @property
    def changed(self) -> Changed:
        """Return the same as counts."""
        return sum((_counted(one) for one in self.tasks), self.behind)


def _counted(one: RetriedTask) -> Changed:
    return Changed(tasks=1) if one.reason is None else Changed(unchanged=(UnchangedGroup(one.reason, 1, one.state),))


@dataclass(frozen=True, slots=True)
class Added:
    """Tasks that were added to a stage."""

    task_ids: tuple[TaskId, ...]
    #: Index of the first of them; the others follow.
    first_index: int


@dataclass(frozen=True, slots=True)
class RequestMistake:
    """One thing that is wrong with a request."""

    #: JSON pointer into the body as a URI fragment, e.g. "#/input/url"; "#/headers/Authorization" for a header.
    pointer: str
    detail: str


def index_spans(text: str) -> Spans:
    """Return the ranges that a text such as "0-99,150" names, in order and merged; raise InvalidInput."""
    found: list[tuple[int, int]] = []
    parts = text.split(",")
    if len(parts) > MOST_SPANS:
        raise InvalidInput(f"at most {MOST_SPANS} ranges of indexes can be named at once")
    for part in parts:
        match = _SPAN.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise InvalidInput(f"{part[:40]!r} is no index and no range of indexes such as 0-99")
        found.append((first, last))
    merged: list[tuple[int, int]] = []
    for first, last in sorted(found):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


class TooManyJobs(Unavailable):
    """As many jobs are open as may be; try again when some have ended."""


class InvalidInputs(InvalidInput):
    """The job's inputs cannot be used."""

    def __init__(self, mistakes: Sequence[RequestMistake]) -> None:
        super().__init__("; ".join(f"{mistake.pointer}: {mistake.detail}" for mistake in mistakes))
        self.mistakes = tuple(mistakes)


def in_short(error: Exception) -> str:
    """Return what is wrong, of many mistakes the first: as the reason of each of many tasks it must not be long."""
    if not isinstance(error, InvalidInputs) or len(error.mistakes) < 2:
        return str(error)
    return f"{error.mistakes[0].pointer}: {error.mistakes[0].detail} (and {len(error.mistakes) - 1} more)"
