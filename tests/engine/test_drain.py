"""A worker is drained by an order of a controller; if it cannot be told, that is said."""

from __future__ import annotations

import pytest

from echelon.controller.engine.base.outbox import order_drain
from echelon.shared.errors import Conflict, NotFound
from echelon.shared.ids import new_worker_id
from tests.engine.house import House, Puppet


def test_the_worker_gets_an_order_that_counts_for_nothing_else(house: House) -> None:
    puppet = Puppet(house)

    order_drain(house.broker, puppet.worker, lease=15.0)
    puppet.listen()

    (order,) = [orders for orders in puppet.heard if orders.drain]
    assert (order.number, order.grants, order.stop) == (0, (), ())


def test_a_worker_that_is_gone_or_part_of_the_controller_is_refused(house: House) -> None:
    puppet = Puppet(house)

    with pytest.raises(NotFound, match="echelon workers"):
        house.jobs.drain_worker(new_worker_id())
    with pytest.raises(Conflict, match="stop that one instead"):
        house.jobs.drain_worker(puppet.worker)
    house.broker.close(timeout=1.0)
    with pytest.raises(Conflict, match="cannot be told"):
        order_drain(house.broker, puppet.worker, lease=15.0)
