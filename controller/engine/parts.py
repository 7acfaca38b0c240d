"""What the use cases lean on, and how they end: whoever has to know is told after the commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.catalogue.definitions import Catalogue
from controller.datastore.port import Datastore
from controller.engine.board import Board
from controller.engine.changes import Changes
from controller.engine.counters import Counters
from controller.engine.outbox import stop_messages
from controller.engine.snapshots import Snapshots
from shared.broker.port import Broker, Outgoing
from shared.messages import REPORTS, Nudge
from shared.sealing import Sealer
from shared.volume import Volume


@dataclass(frozen=True, slots=True)
class JobsParts:
    """What the use cases lean on; the composition root builds it."""

    store: Datastore
    broker: Broker
    volume: Volume
    sealer: Sealer
    snapshots: Snapshots
    changes: Changes
    counters: Counters
    #: The catalogue in force.
    catalogue: Callable[[], Catalogue]
    #: What is wrong with a newer catalogue that was not taken; empty: nothing.
    catalogue_problems: Callable[[], Sequence[str]]
    #: Seconds that a lease lasts.
    lease: float
    #: Workers that a task may take down.
    max_losses: int = 3
    #: Tasks of one stage.
    max_items: int = 100_000
    #: Requests may bring commands of their own.
    inline_commands: bool = False

    def announce(self, board: Board) -> None:
        """Tell workers of attempts that lost their claim, and the engine and those who wait that something changed."""
        self.broker.publish(stop_messages(board.stops, lease=self.lease))
        self.changes.ring(board.ended)
        self.nudge()

    def nudge(self) -> None:
        """Have the engine look at the store."""
        self.broker.publish([Outgoing(REPORTS, Nudge())])
