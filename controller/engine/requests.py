"""What people ask of the engine, as records, and how it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.errors import InvalidInput
from shared.messages import JsonValue


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to run a job."""

    type: str
    input: Mapping[str, JsonValue]
    #: Header names as sent; each with every value it was sent with.
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    idempotency_key: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a request."""

    #: JSON pointer into the body as a URI fragment, e.g. "#/input/url"; "#/headers/Authorization" for a header.
    pointer: str
    detail: str


class InvalidInputs(InvalidInput):
    """The job's inputs cannot be used."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(f"{mistake.pointer}: {mistake.detail}" for mistake in mistakes))
        self.mistakes = tuple(mistakes)
