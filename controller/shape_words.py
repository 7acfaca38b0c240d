"""The words and formats that fields of the REST interface's JSON can have."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from echelon.shared.messages import JsonValue


def about(text: str) -> Meta:
    """Return the description of a field."""
    return Meta(description=text)


#: Marks a time, which records hold as seconds since the epoch.
TIME: Final = Meta(extra_json_schema={"format": "date-time"})

#: ISO 8601 in UTC with milliseconds, e.g. "2026-01-31T12:00:00.000Z".
Time = Annotated[str, TIME]
Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Values = dict[str, JsonValue]
#: State of a job or of a stage.
JobState = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"]
TaskState = Literal["PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"]
TaskSource = Literal["fixed", "spawn", "open"]
ErrorRule = Literal["fail_job", "ignore", "block"]
AttemptOutcome = Literal[
    "completed", "failed", "not_started", "timed_out", "oom_killed", "spawn_invalid", "stopped", "killed",
    "interrupted", "worker_fault", "lost",
]  # fmt: skip
WhyCode = Literal[
    "WAITING_STAGE", "WAITING_FILES", "PAUSED", "MAX_PARALLEL", "NO_WORKER_FOR_QUEUE", "ALL_SLOTS_BUSY", "RETRY_AT",
    "BLOCKED_BY_FAILURE", "BROKER_DOWN", "READY", "RUNNING", "ENDED",
]  # fmt: skip
