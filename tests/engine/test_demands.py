"""Rooms that are believed: neither those told too long ago, nor those told after a transaction has taken its time."""

from __future__ import annotations

import pytest

from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.workers import Capacity
from echelon.controller.engine.turn.capacities import Capacities
from echelon.shared.lease import CAPACITY_TRUSTED_PART
from tests.contract.servers import postgresql_server
from tests.contract.stores import WORKER, postgresql_template, postgresql_url, store_url

__all__ = ["postgresql_server", "postgresql_template", "postgresql_url", "store_url"]

LEASE = 15.0


@pytest.mark.parametrize(
    ("lease", "told", "believed"),
    [
        (LEASE, -CAPACITY_TRUSTED_PART * LEASE - 0.1, False),
        (LEASE, -CAPACITY_TRUSTED_PART * LEASE + 1.0, True),
        (LEASE, 0.0, True),
        (LEASE, 0.4, True),
        # The transaction has waited for its locks. A lease that counts from its time ends before the worker believes.
        (LEASE, 1.0, False),
        (LEASE, 5.0, False),
        # The worker keeps 2 s in reserve, however long a lease is.
        (600.0, 3.0, False),
        # ... and 0.6 s of this one.
        (3.0, 0.3, False),
    ],
)
def test_a_room_is_believed_that_was_told_shortly_before_a_transaction_or_together_with_it(
    store_url: str, lease: float, told: float, believed: bool
) -> None:
    store = open_datastore(store_url)
    try:
        with store.write() as tx:
            now = tx.now()
            tx.lock_capacities(told_after=now, also=[WORKER])
            # What another controller writes while this transaction waits for it.
            tx.save_capacities([Capacity(WORKER, number=1, told_at=now + told, room={"*": 1})])
            demands = Capacities(tx, lease=lease)

            assert [one.worker for one in demands.find_free()] == [WORKER] * believed
    finally:
        store.close()
