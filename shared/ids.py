"""Identifiers. All are UUIDs in their usual text form.

A job's id is random. The ids of one batch of tasks share a random prefix and end with a counter, so that the index of a
fan-out grows at one place instead of 100,000 random ones (RFC 9562, version 8, which leaves the layout to us).
"""

from __future__ import annotations

import secrets
import uuid
from typing import NewType

JobId = NewType("JobId", str)
TaskId = NewType("TaskId", str)
WorkerId = NewType("WorkerId", str)


def new_job_id() -> JobId:
    """Return a new random job id."""
    return JobId(str(uuid.uuid4()))


def new_worker_id() -> WorkerId:
    """Return the id of one incarnation of a worker."""
    return WorkerId(str(uuid.uuid4()))


def new_task_ids(count: int) -> list[TaskId]:
    """Return `count` new task ids, in their sort order."""
    random = secrets.randbits(72)
    high, middle, low = random >> 40, (random >> 24) & 0xFFF, random & 0xFFF
    prefix = f"{high:08x}-{(random >> 48) & 0xFFFF:04x}-8{middle:03x}-8{low:03x}-"
    return [TaskId(f"{prefix}{number:012x}") for number in range(count)]


def is_uuid(text: str) -> bool:
    """Return whether `text` is a UUID in its usual lower-case form."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
