"""The rows of a job that is to exist."""

from __future__ import annotations

from dataclasses import dataclass

from echelon.controller.core.model import Stage
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.records import NewJob
from echelon.controller.datastore.rows import clean, encode, stage_counters, words_of
from echelon.controller.datastore.session import Row


@dataclass(frozen=True, slots=True)
class NewRows:
    """What goes into `jobs`, `job_inputs` and `stages`, in the order of their columns."""

    job: Row
    input: Row
    stages: list[Row]


def new_rows(new: NewJob, key: int, now: float) -> NewRows:
    """Return the rows of a new job whose key is `key`."""
    job = new.job
    started, ended = _times(job.state, now)
    return NewRows(
        job=(
            key,
            job.job_id,
            new.type,
            job.state.value,
            clean(job.error),
            len(job.stages),
            1,
            now,
            started,
            ended,
            clean(job.by),
            now if job.paused else None,
        ),
        input=(
            key,
            new.revision,
            encode(new.input),
            encode(sorted(new.sealed)),
            encode(new.sealed) if new.sealed and job.state not in ENDED else None,
            new.seal if job.state not in ENDED else None,
            int(new.seal is not None),
            words_of(job.job_id, new.type, new.input),
            new.idempotency_key,
            new.request_hash,
            new.request_id,
        ),
        stages=[_stage_row(stage, key, classes, now) for stage, classes in zip(job.stages, new.classes, strict=True)],
    )


def _stage_row(stage: Stage, job_key: int, classes: tuple[str, str | None], now: float) -> Row:
    (
        state, pending, queued, running, completed, failed, cancelled, skipped, spawn, expected, error, ready,
        claim_queue, unfilled, *control,
    ) = stage_counters(stage)  # fmt: skip
    return (
        job_key + stage.number, job_key, stage.number, stage.order, stage.name, stage.source.value,
        stage.on_error.value, *classes, stage.queue, stage.spawn_queue, stage.max_parallel, int(stage.fail_fast),
        state, pending, queued, running, completed, failed, cancelled, skipped, spawn, expected, error, ready,
        claim_queue, unfilled, None, 0, 0, *control, 1, *_times(stage.state, now), now if stage.paused else None,
    )  # fmt: skip


def _times(state: State, now: float) -> Row:
    return None if state is State.PENDING else now, now if state in ENDED else None
