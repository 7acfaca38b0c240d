"""How the datastore fails, beyond `echelon.shared.errors.StoreUnavailable`."""

from __future__ import annotations

from echelon.shared.errors import EchelonError, StoreUnavailable


class TransactionAborted(StoreUnavailable):
    """The transaction lost against another one and left nothing behind; do it again from its beginning."""


class OutcomeUnknown(StoreUnavailable):
    """The datastore was lost during the commit: look whether it took effect before you do it again."""


class SchemaMismatch(StoreUnavailable):
    """The datastore's schema does not belong to this release."""


class GuardFailed(EchelonError):
    """A guarded statement did not find the rows as the transaction had read them; everything was rolled back."""


class StatementRefused(EchelonError):
    """The datastore refused a statement: this is a bug of Echelon."""
