"""The tree of errors. A docstring is the default message; a message names the problem, the value and the remedy."""

from __future__ import annotations


class EchelonError(Exception):
    """Echelon could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidInput(EchelonError):
    """The given value cannot be used."""


class NotFound(EchelonError):
    """There is nothing with this id."""


class Conflict(EchelonError):
    """The present state forbids this."""


class PreconditionFailed(EchelonError):
    """It has changed since it was read; look again."""


class Unavailable(EchelonError):
    """A system that Echelon leans on does not answer at the moment; try again shortly."""


class BrokerUnavailable(Unavailable):
    """The broker does not answer at the moment."""


class StoreUnavailable(Unavailable):
    """The datastore does not answer at the moment."""


class VolumeUnavailable(Unavailable):
    """The shared volume is missing, read-only or not the one that belongs here."""


class InvalidMessage(EchelonError):
    """The message cannot be read."""
