"""The dependencies of the use cases, and their common end: workers and waiters are told after the commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.core.answers import Verb
from echelon.controller.datastore.port import Datastore
from echelon.controller.engine.base.changes import Changes
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.outbox import stop_messages
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.turn.claim_at_submit import ClaimAtSubmit
from echelon.controller.engine.upkeep.open_jobs import OpenJobs
from echelon.shared.broker.port import Broker, Outgoing, Unconfirmed
from echelon.shared.failpoints import failpoint
from echelon.shared.messages import AttemptRef, Orders
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume
from echelon.shared.volume.stops import StopFiles


@dataclass(frozen=True, slots=True)
class JobDependencies:
    """The dependencies of the use cases; the composition root builds them."""

    store: Datastore
    broker: Broker
    volume: Volume
    sealer: Sealer
    snapshots: Snapshots
    changes: Changes
    counters: Counters
    #: The catalogue in force.
    catalogue: Callable[[], Catalogue]
    #: The mistakes of a newer catalogue that was refused; empty: none.
    catalogue_problems: Callable[[], Sequence[str]]
    #: Tells this process's engine that there is something to claim; another's finds it at its next sweep.
    wake: Callable[[], None]
    head_start: ClaimAtSubmit
    open_jobs: OpenJobs
    #: Seconds that a lease lasts.
    lease: float
    #: Workers that a task may take down.
    max_losses: int = 3
    #: Tasks of one stage.
    max_items: int = 100_000
    #: Folders whose disks must not be full, and how many bytes have to be free there.
    disks: tuple[str, ...] = ()
    min_free: int = 0
    #: Requests may bring commands of their own.
    inline_commands: bool = False
    #: Where workers look that no message reaches.
    stop_files: StopFiles | None = None

    def announce_changes(self, unit: UnitOfWork) -> None:
        """Tell workers of attempts that lost their claim, and the engine and those who wait that something changed."""
        told = stop_messages(unit.stops, unit.recalled, lease=self.lease)
        if not self.broker.connected:
            self._write_stop_files(told)
        self.broker.publish(told, confirmed=self._handle_unconfirmed)
        self.changes.wake_waiting(unit.ended)
        self.wake()

    def _handle_unconfirmed(self, unconfirmed: Unconfirmed) -> None:
        self._write_stop_files(unconfirmed.all_messages)

    def _write_stop_files(self, untold: Sequence[Outgoing]) -> None:
        """Let workers that no message has reached find out when their leases end."""
        orders = [outgoing.message for outgoing in untold if isinstance(outgoing.message, Orders)]
        refs = [AttemptRef(stop.task_id, stop.attempt) for one in orders for stop in one.stop]
        if refs and self.stop_files is not None:
            self.stop_files.write_stops(refs)


def stop_before_commit(verb: Verb) -> None:
    """Come past the step at which a job's verb has been written and its transaction is open."""
    if verb is Verb.CANCEL:
        failpoint("cancel.before_commit")
    elif verb is Verb.RETRY:
        failpoint("retry.before_commit")


def stop_after_commit(verb: Verb) -> None:
    """Reach the failpoint at which a job's verb is committed and not announced."""
    if verb is Verb.CANCEL:
        failpoint("cancel.after_commit")
    elif verb is Verb.RETRY:
        failpoint("retry.after_commit")
