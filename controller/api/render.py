"""Records to the shapes of the REST interface (`echelon.controller.shapes`); a list of 500 tasks takes milliseconds.

Only what a shape names differently from the record, or what the record does not know, is said here.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
from flask import Response, request

from echelon.controller import shapes
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.failures import Failure
from echelon.controller.datastore.records import (
    SPAWN_INDEX,
    JobView,
    RecordPage,
    RunningAttempt,
    StageView,
    TaskView,
    WorkerView,
)
from echelon.controller.engine.base.labels import TaskLabels
from echelon.controller.engine.base.requests import Changed, Retried
from echelon.controller.engine.why.errors import group_errors
from echelon.controller.engine.why.explanations import Reason
from echelon.controller.shape_words import TIME

Item = TypeVar("Item")
Shape = TypeVar("Shape")
Json = dict[str, object]

_STATES = tuple(State)
_read_counts = attrgetter(*(state.lower() for state in State))
_encode = msgspec.json.Encoder(enc_hook=str).encode


def make_answer(body: object, *, status: int = 200, etag: str | None = None) -> Response:
    """Return a JSON answer; with an etag that the client has already, 304."""
    if etag is None:
        return Response(_encode(body), status=status, content_type="application/json")
    tag = f'"{etag}"'
    if request.method in ("GET", "HEAD") and etag in request.if_none_match:
        response = Response(status=304)
    else:
        response = Response(_encode(body), status=status, content_type="application/json")
    response.headers["ETag"] = tag
    return response


def make_page(found: RecordPage[Item], render: Callable[[Item], object], **more: object) -> Response:
    """Return a page of a list; `more` stands beside it."""
    return make_answer({"items": [render(item) for item in found.items], "next_cursor": found.next_cursor, **more})


def make_whole_list(items: Iterable[Item], render: Callable[[Item], object]) -> Response:
    """Return a list that needs no pages."""
    return make_answer({"items": [render(item) for item in items], "next_cursor": None})


def format_time(seconds: float | None) -> str | None:
    """Return a time as users see it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def fill_shape(shape: type[Shape], record: object, **given: object) -> Shape:
    """Return a shape with each field from `given` or else from the record; a field that may be absent is only given."""
    kind: Any = shape
    names, read, lists, times = _plan_shape(kind, tuple(given))
    made: Any = dict(zip(names, read(record), strict=False), **given)
    for name, inner in lists:
        made[name] = [fill_shape(inner, one) for one in made[name]]
    for name in times:
        made[name] = format_time(made[name])
    return cast(Shape, made)


@functools.cache
def _plan_shape(
    shape: Any, given: tuple[str, ...]
) -> tuple[list[str], Callable[[object], Any], list[tuple[str, type]], list[str]]:
    """Return the fields to read from the record, their reader, the lists of shapes among them, and all times."""
    hints = get_type_hints(shape, include_extras=True)
    names = [name for name in hints if name in shape.__required_keys__ and name not in given]
    items = {name: get_args(hint)[0] for name, hint in get_type_hints(shape).items() if get_origin(hint) is list}
    times = [name for name, hint in hints.items() if TIME in _iterate_metadata(hint)]
    # With at least two names `attrgetter` returns a tuple; the first one is read twice for that.
    read = attrgetter(*names, names[0]) if names else lambda _: ()
    return names, read, [(name, items[name]) for name in names if is_typeddict(items.get(name))], times


def _iterate_metadata(hint: object) -> Iterator[object]:
    """Yield what is annotated to a type and to its parts."""
    yield from getattr(hint, "__metadata__", ())
    for part in get_args(hint):
        yield from _iterate_metadata(part)


def job_etag(view: JobView, waiting: Mapping[int, str] | None = None) -> str:
    """Return what changes whenever anything in the view of a job does, or why which stages lack a worker."""
    # Every change of a stage is one of its job. Workers come and go without one: If-Match looks only before the dot.
    return f"{view.etag}.{_sum_up(waiting)}" if waiting else str(view.etag)


def stage_etag(view: StageView, waiting: str | None = None) -> str:
    """Return what changes whenever anything in the view of a stage does."""
    return f"{view.etag}.{_sum_up(waiting)}" if waiting else str(view.etag)


def _sum_up(sentences: Mapping[int, str] | str) -> str:
    """Return a short text that changes with these sentences."""
    return f"{zlib.crc32(repr(sentences).encode()):08x}"


def render_job(view: JobView, masked: Mapping[str, object], waiting: Mapping[int, str] | None = None) -> shapes.Job:
    """Return a job; `masked` is its input with secrets masked, `waiting` why stages lack a worker, by their numbers."""
    waiting = waiting or {}
    stages = [render_stage(one, waiting.get(one.number)) for one in view.stages]
    return fill_shape(
        shapes.Job, view, input=masked, stages=stages, etag=job_etag(view, waiting), **_pause_fields(view)
    )


def render_stage(view: StageView, waiting: str | None = None) -> shapes.Stage:
    """Return a stage."""
    return fill_shape(
        shapes.Stage,
        view,
        counts=dict(zip(_STATES, _read_counts(view.tally.shown), strict=True)),
        total=view.expected,
        spawn_state=view.shown_spawn,
        waiting=waiting,
        etag=str(view.etag),
        **_pause_fields(view),
    )


def render_task(view: TaskView, names: TaskLabels) -> shapes.Task:
    """Return a task as `names` of its job name it and mask its values."""
    values = names.list_values(view.task_class, view.input)
    label = names.label_task(view.task_class, view.input, view.index)
    return fill_shape(
        shapes.Task, view, input=values, label=label, etag=str(view.etag), **_task_position(view), **_pause_fields(view)
    )


def render_errors(view: JobView, failures: Sequence[Failure], names: TaskLabels) -> shapes.JobErrors:
    """Return why tasks of a job have failed, in groups."""
    groups = [
        shapes.ErrorGroup(
            stage=group.stage, error=group.text, example=group.example, count=group.count,
            tasks=[_render_named(view, one, names) for one in group.tasks],
        )
        for group in group_errors(failures)
    ]  # fmt: skip
    return {"failed_tasks": view.failed_tasks, "grouped_tasks": len(failures), "groups": groups}


def _render_named(view: JobView, one: Failure, names: TaskLabels) -> shapes.NamedTask:
    label = names.label_task(one.task_class, one.input, one.index)
    return fill_shape(shapes.NamedTask, one, job_id=view.job_id, label=label, **_task_position(one))


def render_change(found: Changed) -> shapes.ChangeResult:
    """Return what a request changed."""
    return fill_shape(shapes.ChangeResult, found, changed=fill_shape(shapes.ChangedCounts, found))


def render_retried(found: Retried) -> shapes.RetriedTasks:
    """Return the result for each task of a list, and the sum of all."""
    return fill_shape(shapes.RetriedTasks, found, **render_change(found.changed))


def render_reason(found: Reason) -> shapes.Why:
    """Return why something does not move on."""
    task = found.task
    return fill_shape(
        shapes.Why,
        found,
        task_id=task.task_id if task else None,
        index=_task_position(task)["index"] if task else None,
    )


def render_worker(view: WorkerView, held: Sequence[RunningAttempt]) -> shapes.Worker:
    """Return a worker and the attempts that it holds."""
    return fill_shape(
        shapes.Worker, view, attempts=[fill_shape(shapes.WorkerAttempt, one, **_task_position(one)) for one in held]
    )


def _task_position(view: TaskView | RunningAttempt | Failure) -> Json:
    """Return a task's position as users see it: a spawn task has none."""
    spawn = view.index == SPAWN_INDEX
    return {"index": None if spawn else view.index, "spawn": spawn}


def _pause_fields(view: JobView | StageView | TaskView) -> Json:
    """Return whether a person holds something back, who, and since when."""
    paused = view.by is not None and view.state not in ENDED
    return {"paused": paused, "paused_by": view.by if paused else None, "paused_at": view.paused_at if paused else None}
