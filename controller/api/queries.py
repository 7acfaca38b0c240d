"""Queries, checked, as records."""

from __future__ import annotations

from dataclasses import dataclass

from echelon.controller.core.states import State


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which part of a list is wanted."""

    limit: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class JobsQuery(PageQuery):
    """Which jobs are wanted, None or empty: any; and in which order."""

    state: tuple[State, ...]
    type: str | None
    q: str | None
    created_after: float | None
    created_before: float | None
    updated_after: float | None
    order: str


@dataclass(frozen=True, slots=True)
class TasksQuery(PageQuery):
    """Which tasks are wanted; None or empty: any."""

    stage: int | None
    index: int | None
    state: tuple[State, ...]
    run: int | None


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which log is wanted, and how."""

    follow: bool
    #: Only of attempts that have printed something since.
    since: float | None = None
    #: stdout or stderr; None: both.
    stream: str | None = None
    #: None: the last.
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class IdQuery:
    """The beginning of an id, in lower case."""

    prefix: str


@dataclass(frozen=True, slots=True)
class ChoiceQuery:
    """Which tasks a verb is meant for; without state and index: the job or stage itself."""

    state: str | None
    #: For example 0-99,150.
    index: str | None
    only_failed: bool
    #: The stages behind begin their next run.
    downstream: bool = False


@dataclass(frozen=True, slots=True)
class AddQuery:
    """How tasks are added."""

    paused: bool
