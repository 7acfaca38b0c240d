"""How the datastore fails, beyond `echelon.shared.errors.StoreUnavailable`."""

from __future__ import annotations

from echelon.shared.errors import EchelonError, StoreUnavailable


class TransactionAborted(StoreUnavailable):
    """The transaction lost a conflict with another and was rolled back; repeat it from its beginning."""


class OutcomeUnknown(StoreUnavailable):
    """The connection was lost during the commit: check whether it took effect before repeating it."""


class SchemaMismatch(StoreUnavailable):
    """The datastore's schema belongs to another release."""


class GuardFailed(EchelonError):
    """A guarded statement did not find the rows as the transaction had read them; it was rolled back."""


class StatementRefused(EchelonError):
    """The datastore refused a statement: a bug of Echelon."""
