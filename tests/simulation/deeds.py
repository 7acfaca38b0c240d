"""Records of live control in a run, for the rules: pauses, requests and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.simulation.witness import Seen, Wish


@dataclass(frozen=True, slots=True)
class Held:
    """A confirmed pause: nothing of its target starts until the next request about the job."""

    job_id: str
    #: None: the whole job.
    stage: int | None
    #: None: the whole stage.
    task_id: str | None
    #: When it was asked for, and when it was answered.
    begun: float
    since: float


@dataclass(frozen=True, slots=True)
class Deeds:
    """All of it."""

    held: Sequence[Held] = ()
    #: (job, when the request was sent): from then on a pause of that job is not relied on.
    touched: Sequence[tuple[str, float]] = ()
    #: The effect of each commit.
    seen: Sequence[Seen] = ()
    #: Requests that were answered, with what they came to.
    answers: Sequence[tuple[Wish, object]] = ()
    #: Name of a composed job -> the secrets of its tasks, by stage and index.
    composed: Mapping[str, Mapping[tuple[int, int], str]] = field(default_factory=dict)
