"""Parts grants by bytes, so that each part of an order fits into a message.

How it works: a grant is measured as a whole, by the encoder that will write it (some 40 us for 512 small tasks); only
one that does not fit is taken apart and measured task by task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from echelon.shared.codec import measure_part
from echelon.shared.errors import InvalidMessage
from echelon.shared.messages import Finished, Grant, GrantedTask, Outcome

#: Grants are gathered up to so many bytes: a message is no larger than it must be, one large attempt apart.
PART_BYTES = 1024 * 1024
#: Bytes of an order beside its grants, at most.
ENVELOPE = 1024


@dataclass(slots=True)
class Packed:
    """The grants of one order, divided into messages."""

    #: Grants that travel together.
    parts: list[list[Grant]] = field(default_factory=list)
    #: All of it is one part, that leaves room for more than grants.
    small: bool = True
    #: The ends of attempts that no message can hold.
    unfit: list[Finished] = field(default_factory=list)


def pack_grants(grants: Sequence[Grant], *, longest: int | None) -> Packed:
    """Return grants in parts that fit into messages of `longest` bytes, in their order; None: anything fits."""
    if longest is None:
        return Packed([list(grants)])
    packed, held = Packed(), 0
    for grant in grants:
        for piece, size in _split_grant(grant, longest - ENVELOPE, packed.unfit):
            if not packed.parts or held + size > min(PART_BYTES, longest - ENVELOPE):
                packed.parts.append([])
                held = 0
            packed.parts[-1].append(piece)
            held += size
    packed.small = len(packed.parts) <= 1 and held <= PART_BYTES
    return packed


def _split_grant(grant: Grant, longest: int, unfit: list[Finished]) -> Iterator[tuple[Grant, int]]:
    """Yield a grant in pieces of at most `PART_BYTES` where that is possible, each with its size."""
    try:
        size = measure_part(grant)
    except InvalidMessage:
        size = longest + 1
    if size <= min(PART_BYTES, longest) or (len(grant.tasks) == 1 and size <= longest):
        yield grant, size
    else:
        yield from _split_tasks(grant, longest, unfit)


def _split_tasks(grant: Grant, longest: int, unfit: list[Finished]) -> Iterator[tuple[Grant, int]]:
    shared = msgspec.structs.replace(grant, tasks=())
    tasks: list[GrantedTask] = []
    held = 0
    for task in grant.tasks:
        try:
            # A task that is not the first has a comma before it.
            common, own = measure_part(shared), measure_part(task) + 1
        except InvalidMessage as error:
            unfit.append(_refuse_task(grant, task, str(error)))
            continue
        if common + own > longest:
            unfit.append(_refuse_task(grant, task, _too_large(common + own, longest)))
            continue
        if tasks and common + held + own > min(PART_BYTES, longest):
            yield msgspec.structs.replace(grant, tasks=tuple(tasks)), common + held
            tasks, held = [], 0
        tasks.append(task)
        held += own
    if tasks:
        yield msgspec.structs.replace(grant, tasks=tuple(tasks)), common + held


def _refuse_task(grant: Grant, task: GrantedTask, error: str) -> Finished:
    return Finished(grant.job_id, task.task_id, task.attempt, Outcome.NOT_STARTED, error=error)


def _too_large(size: int, longest: int) -> str:
    return (
        f"its command and input values take {size} bytes, and at most {longest} reach a worker: "
        "leave what is large in a file on the volume and give the task its path"
    )
