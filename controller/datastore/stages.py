"""Rows of stages: one table of columns; inserting, saving, loading and showing a stage follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Column, and_, case, delete, func, null, select, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.model import OnError, Source, Stage, Tally
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.encoding import STATES, clean_text
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.records import StageView
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.sql import ONE, build_insertion
from echelon.controller.datastore.tables import stages


@dataclass(frozen=True, slots=True)
class _Kept:
    """A column that keeps a fact of a `Stage`."""

    #: Its name in `Stage`; "tally.x" is in its tally.
    fact: str
    column: Column[Any]
    #: It may change after the insertion.
    changes: bool = True
    #: Convert the fact to the column's value and back; None: they are equal.
    write: Callable[[Any], Any] | None = None
    read: Callable[[Any], Any] | None = None
    #: Derived from other facts for searches; not read back.
    derived: bool = False


def _read_word(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    return {word.value: word for word in kind}.__getitem__


def _write_bound(bound: int | str | None) -> str | None:
    return None if bound is None else str(bound)


def _read_bound(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


_c = stages.c
#: In the order of the fields of `Stage`.
_KEPT = (
    _Kept("number", _c.number, changes=False),
    _Kept("order", _c.place, changes=False),
    _Kept("name", _c.name, changes=False),
    _Kept("source", _c.source, changes=False, read=_read_word(Source)),
    _Kept("on_error", _c.on_error, changes=False, read=_read_word(OnError)),
    _Kept("queue", _c.queue, changes=False),
    _Kept("spawn_queue", _c.spawn_queue, changes=False),
    _Kept("max_parallel", _c.max_parallel, changes=False),
    _Kept("fail_fast", _c.fail_fast, changes=False, write=int, read=bool),
    _Kept("max_failed", _c.max_failed, changes=False, write=_write_bound, read=_read_bound),
    _Kept("priority", _c.priority),
    _Kept("spawn_priority", _c.spawn_priority),
    _Kept("state", _c.state, read=STATES.get),
    *(_Kept(f"tally.{count}", _c[count]) for count in Tally.__struct_fields__),
    _Kept("spawn", _c.spawn, read=STATES.get),
    _Kept("expected", _c.expected),
    _Kept("error", _c.error, write=clean_text),
    _Kept("by", _c.by_whom, write=clean_text),
    _Kept("failing", _c.failing, write=int, read=bool),
    _Kept("blocked", _c.blocked, write=int, read=bool),
    _Kept("spawn_hand", _c.spawn_hand, write=int, read=bool),
    _Kept("added", _c.added),
    _Kept("run", _c.run, changes=False),
    _Kept("shift", _c.shift, changes=False),
    _Kept("spawn_started", _c.spawn_started, write=int, read=bool),
    _Kept("claimable", _c.ready, derived=True),
    _Kept("claim_queue", _c.claim_queue, derived=True),
    _Kept("claim_rank", _c.claim_rank, derived=True),
    _Kept("unfilled", _c.unfilled, derived=True),
)


class _Writer:
    """Returns a stage's facts as column values, in the order of the table, which statements use."""

    def __init__(self, kept: Iterable[_Kept]) -> None:
        kept = sorted(kept, key=lambda one: list(stages.columns).index(one.column))
        self.names = [one.column.name for one in kept]
        self._facts = attrgetter(*(one.fact for one in kept))
        self._conversions = [(place, one.write) for place, one in enumerate(kept) if one.write is not None]

    def encode_values(self, stage: Stage) -> list[Any]:
        values = list(self._facts(stage))
        for place, convert in self._conversions:
            values[place] = convert(values[place])
        return values


_ALL = _Writer(_KEPT)
_CHANGING = _Writer(one for one in _KEPT if one.changes)

_READ = tuple(one for one in _KEPT if not one.derived)
_READINGS = [(place, one.read) for place, one in enumerate(_READ) if one.read is not None]
_TALLY = [place for place, one in enumerate(_READ) if "." in one.fact]
_COUNTS = slice(_TALLY[0], _TALLY[-1] + 1)
#: Columns that `Stage` has no field for, in the order of `StageView`.
_SHOWN = (_c.task_class, _c.spawn_class, _c.etag, _c.started_at, _c.ended_at, _c.paused_at)
_BEGUN = len(_READ) + _SHOWN.index(_c.started_at)
#: The columns that `stage_of` and `stage_view` read.
STAGE_COLUMNS = (*(one.column for one in _READ), *_SHOWN)

INSERT_STAGE = build_insertion(stages)
_in_order: Callable[[dict[str, Any]], Row] = itemgetter(*(column.name for column in stages.columns))
_of_job = and_(_c.key >= _p("first_key"), _c.key < _p("end_key"))
LOAD_STAGES = Prepared(select(*STAGE_COLUMNS).where(_of_job).order_by(_c.key), "first_key end_key")
#: Takes what `saved_stage_row` returns.
SAVE_STAGE = Prepared(
    update(stages)
    .where(_c.key == _p("at_key"))
    .values(
        {
            **{name: _p(name) for name in _CHANGING.names},
            "etag": _c.etag + ONE,
            "started_at": func.coalesce(_c.started_at, _p("begun_at")),
            "ended_at": case((_c.state == _p("same"), _c.ended_at), else_=_p("ended")),
            "paused_at": case((_p("paused") == ONE, func.coalesce(_c.paused_at, _p("since"))), else_=null()),
        }
    ),
    " ".join(_CHANGING.names) + " begun_at same ended paused since at_key",
)
DELETE_STAGES = Prepared(delete(stages).where(_of_job), "first_key end_key")
STAGE_ETAG = Prepared(select(_c.etag).where(_c.key == _p("at_key")), "at_key")


def new_stage_row(stage: Stage, job_key: int, classes: tuple[str, str | None], now: float) -> Row:
    """Return the row of a new stage."""
    started, ended = times_from_start(stage.state, now)
    task_class, spawn_class = classes
    row = {
        "key": job_key + stage.number, "job": job_key, "task_class": task_class, "spawn_class": spawn_class,
        "items_path": None, "items_created": 0, "items_offset": 0, "served": 0, "etag": 1,
        "started_at": started, "ended_at": ended, "paused_at": now if stage.paused else None,
        **dict(zip(_ALL.names, _ALL.encode_values(stage), strict=True)),
    }  # fmt: skip
    return _in_order(row)


def saved_stage_row(stage: Stage, job_key: int, now: float) -> Row:
    """Return the parameters of `SAVE_STAGE`."""
    started, ended = times_of_change(stage.state, now)
    times = (started, stage.state.value, ended, int(stage.paused), now)
    return (*_CHANGING.encode_values(stage), *times, job_key + stage.number)


def times_from_start(state: State, now: float) -> Row:
    """Return `started_at` and `ended_at` of a new job or stage in this state."""
    return None if state is State.PENDING else now, now if state in ENDED else None


def times_of_change(state: State, now: float) -> Row:
    """Return the new `started_at` (if it is empty) and `ended_at` of a job or stage that enters this state."""
    return now if state is State.RUNNING else None, now if state in ENDED else None


def stage_of(row: Row) -> Stage:
    """Return the stage of a row."""
    return Stage(*_read_facts(row))


def stage_view(row: Row) -> StageView:
    """Return a stage as users see it."""
    return StageView(*_read_facts(row), *row[len(_READ) :])


def _read_facts(row: Row) -> list[Any]:
    facts = list(row[: len(_READ)])
    for place, read in _READINGS:
        facts[place] = read(facts[place])
    facts[_COUNTS] = [Tally(*facts[_COUNTS])]
    facts.append(row[_BEGUN] is not None)
    return facts
