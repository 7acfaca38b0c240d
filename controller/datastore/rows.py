"""Records from rows and rows from records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from echelon.controller.core.model import OnError, Source, Stage, Tally
from echelon.controller.core.states import State
from echelon.controller.datastore.outstanding import Demand
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.tables import stages
from echelon.shared.ids import JobId, WorkerId
from echelon.shared.messages import JsonValue

STATES = {str(state): state for state in State}

_encoder = msgspec.json.Encoder()
_object_decoder = msgspec.json.Decoder(dict[str, Any])


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """A demand as its column holds it. Controllers one release apart share it: fields are only added, with defaults."""

    number: int
    room: dict[str, int]
    order: int
    unseen: list[tuple[int, str, int, float]]
    alone: tuple[JobId, int] | None = None


_demand_decoder = msgspec.json.Decoder(_Told)
_names_decoder = msgspec.json.Decoder(list[str])

#: The columns that make a `Stage`, in the order of `stage_of`.
STAGE_COLUMNS = (
    stages.c.number, stages.c.place, stages.c.name, stages.c.source, stages.c.on_error, stages.c.queue,
    stages.c.spawn_queue, stages.c.max_parallel, stages.c.fail_fast, stages.c.state,
    stages.c.pending, stages.c.queued, stages.c.running, stages.c.completed, stages.c.failed, stages.c.cancelled,
    stages.c.skipped, stages.c.held, stages.c.withdrawn, stages.c.spawn, stages.c.expected, stages.c.error,
    stages.c.by_whom, stages.c.failing, stages.c.blocked, stages.c.spawn_hand, stages.c.added, stages.c.started_at,
)  # fmt: skip


def encode(value: object) -> str:
    """Return a value as JSON text."""
    return _encoder.encode(value).decode()


def decode_object(text: str | None) -> dict[str, JsonValue]:
    """Return the object that JSON text holds; None is the empty one."""
    return _object_decoder.decode(text) if text else {}


def decode_names(text: str) -> list[str]:
    """Return the list of strings that JSON text holds."""
    return _names_decoder.decode(text)


def encode_demand(demand: Demand) -> str:
    """Return a demand as JSON text, without what has columns of its own."""
    return encode(_Told(demand.number, demand.room, demand.order, demand.unseen, demand.alone))


def demand_of(worker_id: str, text: str | None, told_at: float | None) -> Demand:
    """Return the demand that a worker's row holds; one that has told nothing has no room."""
    if text is None:
        return Demand(WorkerId(worker_id))
    told = _demand_decoder.decode(text)
    return Demand(WorkerId(worker_id), told.number, told_at or 0.0, told.room, told.order, told.unseen, told.alone)


def clean(text: str | None) -> str | None:
    """Return text that any database takes: NUL and lone surrogates become U+FFFD.

    Errors and results carry what a task has printed; one odd character must not hold up the batch that it is in.
    """
    if text is None:
        return None
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def words_of(job_id: str, job_type: str, values: Mapping[str, JsonValue]) -> str:
    """Return the text that a search for a job looks through."""
    texts = [value if isinstance(value, str) else encode(value) for value in values.values()]
    return clean("\n".join((job_id, job_type, *texts)).casefold()) or ""


def stage_of(row: Row) -> Stage:
    """Return the stage of a row that begins with `STAGE_COLUMNS`."""
    return Stage(
        number=row[0],
        order=row[1],
        name=row[2],
        source=Source(row[3]),
        on_error=OnError(row[4]),
        queue=row[5],
        spawn_queue=row[6],
        max_parallel=row[7],
        fail_fast=bool(row[8]),
        state=STATES[row[9]],
        tally=Tally(*row[10:19]),
        spawn=STATES[row[19]] if row[19] else None,
        expected=row[20],
        error=row[21],
        by=row[22],
        failing=bool(row[23]),
        blocked=bool(row[24]),
        spawn_hand=bool(row[25]),
        added=row[26],
        begun=row[27] is not None,
    )


def unfilled(stage: Stage) -> int:
    """Return how many items of a running stage are not tasks yet."""
    if stage.source is not Source.SPAWN or stage.state is not State.RUNNING or stage.expected is None:
        return 0
    return max(0, stage.expected - stage.tally.total)


def stage_counters(stage: Stage) -> Row:
    """Return what changes about a stage, in the order in which `SAVE_STAGE` takes it."""
    tally = stage.tally
    return (
        stage.state, tally.pending, tally.queued, tally.running, tally.completed, tally.failed, tally.cancelled,
        tally.skipped, stage.spawn, stage.expected, clean(stage.error), stage.claimable, stage.claim_queue,
        unfilled(stage), clean(stage.by), int(stage.failing), int(stage.blocked), int(stage.spawn_hand), stage.added,
        tally.held, tally.withdrawn,
    )  # fmt: skip
