"""Mistakes of a catalogue and their places. Must not know how they are found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from echelon.shared.errors import InvalidInput

#: Mistakes that one report lists.
MAX_REPORTED = 200


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """Something in a file that is wrong, or (as a warning) that could be better."""

    file: str
    #: Counted from 1; 0: the file as a whole.
    line: int
    #: Counted from 1, in characters.
    column: int
    message: str
    #: The text to write instead, or another step to take.
    remedy: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.message}" + (f" -> {self.remedy}" if self.remedy else "")


class CatalogueError(InvalidInput):
    """The catalogue is not valid."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes) or None)


class Complaint(str):
    """A sentence on one value, with what to write instead; travels through marshmallow as a message."""

    remedy: str | None

    def __new__(cls, message: str, remedy: str | None = None) -> Complaint:
        """Make one."""
        complaint = super().__new__(cls, message)
        complaint.remedy = remedy
        return complaint

    def format(self, *args: object, **kwargs: object) -> Complaint:
        """Return itself: marshmallow formats what it is given, and a user's text may hold braces."""
        return self


def sort_mistakes(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """Return the mistakes by place, each once, cut off where they become too many."""
    ordered = sorted(set(mistakes), key=lambda one: (one.file, one.line, one.column, one.message))
    if len(ordered) <= MAX_REPORTED:
        return tuple(ordered)
    rest = len(ordered) - MAX_REPORTED
    last = ordered[MAX_REPORTED]
    return (*ordered[:MAX_REPORTED], Mistake(last.file, last.line, last.column, f"and {rest} more mistakes"))
