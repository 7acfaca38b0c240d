"""Tell the workers, by a sign on the volume, whether this controller could take tasks away from a silent one.

A loop of its own: the engine's may hang in a database that does not answer, and the sign has to say just that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

from echelon.shared.volume.beacons import EVERY, Beacon

log = logging.getLogger(__name__)

#: Seconds between two looks whether there is something else to say: a worker whose lease is short asks soon.
LOOK = 0.25


class Lighthouse:
    """Shows one controller's sign until told to stop."""

    def __init__(self, beacon: Beacon, able: Callable[[], bool]) -> None:
        self._beacon = beacon
        self._able = able
        self._said: bool | None = None

    def run(self, stop: Event) -> None:
        """Show the sign, again and again."""
        while not stop.is_set():
            self.turn()
            self._rest(stop)
        self._beacon.douse()

    def turn(self) -> None:
        """Show the sign once."""
        able = self._able()
        try:
            self._beacon.show(able=able)
            self._said = able
        except OSError as error:
            log.warning("no sign could be left on the volume: %s", error)

    def _rest(self, stop: Event) -> None:
        """Wait until the sign has to be renewed, or until it is not true any more."""
        for _ in range(round(EVERY / LOOK)):
            if stop.wait(LOOK) or self._able() != self._said:
                return
