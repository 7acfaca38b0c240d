"""The worker's own end of a lease: an attempt without renewals ends before another worker may start the next one.

While no controller could give the attempt to another worker it goes on, whatever its lease says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from echelon.shared.ablation import ablated
from echelon.shared.clock import Clock
from echelon.shared.failpoints import failpoint
from echelon.shared.lease import (
    RENEWAL_MISSED,
    RENEWED_WITHIN,
    STATUS_READ_EVERY,
    lease_grace,
    lease_margin,
    unrenewed_end,
)
from echelon.shared.messages import AttemptRef
from echelon.worker.backlog import HeldAttempt
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.heartbeat import Heartbeat

#: Seconds between two checks of the leases of all held attempts.
CHECKED_EVERY = 0.1


def compute_reserve(lease: float, grace: float) -> float:
    """Return how long before the end of its lease an attempt has to be told to end.

    `grace`: the seconds between SIGTERM and SIGKILL that its task asks for.
    """
    return lease_margin(lease) + min(grace, lease_grace(lease))


@dataclass(frozen=True, slots=True)
class VolumeSigns:
    """The signs on the volume that a worker reads while it gets no messages."""

    #: Whether a controller could give this worker's tasks to another one; if not, the end of a lease has no effect.
    any_controller_able: Callable[[], bool] = lambda: True
    #: Whether an attempt was ended while no message could reach this worker.
    is_taken_away: Callable[[AttemptRef], bool] = lambda ref: False


class LeaseFence:
    """Finds held attempts whose lease runs out. The agent's thread uses it."""

    def __init__(self, holdings: Holdings, heartbeat: Heartbeat, clock: Clock, signs: VolumeSigns) -> None:
        self._holdings = holdings
        self._heartbeat = heartbeat
        self._clock = clock
        self._signs = signs
        #: When all leases were checked last, and when the first of them is due; on the monotonic clock.
        self._checked_at = -math.inf
        self._first_due: float | None = None

    @property
    def next_check(self) -> float | None:
        """Return when a lease is due, on the monotonic clock; None if no attempt is held."""
        return None if self._first_due is None else max(self._first_due, self._checked_at + CHECKED_EVERY)

    def mind_granted(self, granted: Sequence[HeldAttempt]) -> None:
        """Hurry the heartbeat for granted attempts that it might renew too late.

        A lease counts from the report that the grant answers, which may be some time ago: a worker with free slots is
        given tasks when another worker is lost.
        """
        if not granted:
            return
        first = min([held.end_by for held in granted])
        self._first_due = min(first, self._first_due or first)
        if first - self._clock.monotonic() < RENEWED_WITHIN * self._heartbeat.interval:
            self._heartbeat.hurry_next()

    def may_start(self, held: HeldAttempt) -> bool:
        """Return whether an attempt may start at this moment: its lease still holds.

        Ask immediately before each start. This process may have been paused since the last check, and then another
        worker may run the task, or its job may have ended.
        """
        # The clock is asked last, because a pause may come between two operations.
        return min(held.end_by, held.look_at) > self._clock.monotonic() or ablated("start_fence")

    def find_overdue(self) -> list[HeldAttempt]:
        """Return the attempts that have to end now; hurry the heartbeat for leases that were not renewed in time."""
        now = self._clock.monotonic()
        if now - self._checked_at < CHECKED_EVERY:
            return []
        self._checked_at, self._first_due = now, None
        able: bool | None = None
        overdue: list[HeldAttempt] = []
        for held in self._holdings.list_held():
            renewed_by = held.lease_end - held.lease + RENEWAL_MISSED * self._heartbeat.interval
            unrenewed = now > renewed_by
            if unrenewed or held.look_at < math.inf:
                self._heartbeat.hurry_next()
            end_by = held.end_by
            if now >= min(end_by, held.look_at):
                able = self._signs.any_controller_able() if able is None else able
                end_by = self._read_signs(held, end_by, able=able)
            if now < end_by or ablated("lease_fence"):
                due = min(end_by, held.look_at, math.inf if unrenewed else renewed_by)
                self._first_due = min(due, self._first_due or due)
            else:
                overdue.append(held)
        if any(held.pool for held in self._holdings.list_held()):
            failpoint("exec.mid")
        return overdue

    def _read_signs(self, held: HeldAttempt, end_by: float, *, able: bool) -> float:
        """Return by when an attempt without renewals has to be told to end; it goes on while no controller is able."""
        now = self._clock.monotonic()
        if self._signs.is_taken_away(held.ref):
            return min(end_by, now)
        if not able:
            held.lease_end = max(held.lease_end, now + unrenewed_end(held.lease))
        elif now >= end_by:
            return end_by
        held.look_at = now + STATUS_READ_EVERY
        return held.end_by
