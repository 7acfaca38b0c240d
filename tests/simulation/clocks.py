"""Clocks that show the world's time, wrong by as much as a test says; and ids that a seed decides."""

from __future__ import annotations

import random
import uuid

from tests.simulation.world import EPOCH, World


class SimClock:
    """A process's clock: the monotonic one begins anywhere, the wall's may be set wrong."""

    def __init__(self, world: World, *, offset: float = 0.0) -> None:
        self._world = world
        self._offset = offset
        self.skew = 0.0

    def wall(self) -> float:
        return EPOCH + self._world.now + self.skew

    def monotonic(self) -> float:
        return self._offset + self._world.now


class StoreClock(SimClock):
    """The store's clock, which judges leases; a person may set it."""

    def wall(self) -> float:
        return super().wall() + self._world.store_skew


class SeededIds:
    """Stands in for the modules that `echelon.shared.ids` draws from."""

    UUID = uuid.UUID

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def uuid(self) -> str:
        return str(self.uuid4())

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._rng.getrandbits(128), version=4)

    def randbits(self, bits: int) -> int:
        return self._rng.getrandbits(bits)
