"""Every length of time that controllers and workers must agree on, and the inequalities between them.

An attempt runs under a lease. Its worker renews the lease with heartbeats, and ends the attempt's processes before the
lease ends. A controller starts the next attempt after the lease has ended by the store's clock. Both sides apply the
constants below without asking each other, so the inequalities of `RULES` keep two attempts of a task apart.
`find_violations` checks them for one pair of settings; tests/shared/test_lease.py checks them for many.

All lengths are in seconds, unless a name ends in `_PART`: that is a part of a lease.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Final

# --- Settings -------------------------------------------------------------------------------------------------------

DEFAULT_LEASE: Final = 15.0
#: The shortest lease that can be set: a third of it lies between two heartbeats, and two fifths are kept in reserve.
SHORTEST_LEASE: Final = 3.0
#: The longest time between two heartbeats, unless `HEARTBEATS_PER_LEASE` asks for more of them.
DEFAULT_HEARTBEAT: Final = 5.0

# --- The worker's side of a lease -----------------------------------------------------------------------------------

#: Heartbeats in the length of a lease, at the least. A heartbeat also lives this many intervals in the broker: while no
#: controller takes them they would pile up, and a new one would wait behind all of them.
HEARTBEATS_PER_LEASE: Final = 3
#: A heartbeat is hurried when a lease has not been renewed for this many intervals.
RENEWAL_MISSED: Final = 1.25
#: A heartbeat is hurried when an attempt is granted with less than this many intervals left before its worker has to
#: end it. By its own pace the first one that names the attempt comes within one interval, and needs an answer.
RENEWED_WITHIN: Final = 1.5
#: A hurried heartbeat, and the one after a report that the broker did not take, come after this part of an interval,
#: and after `HURRIED_AFTER` at the latest.
HURRIED_PART: Final = 0.2
HURRIED_AFTER: Final = 1.0
#: An attempt's processes are gone this long before its lease ends ...
LEASE_MARGIN: Final = 2.0
#: ... and this is the longest time between SIGTERM and SIGKILL for an attempt whose lease runs out.
LEASE_GRACE: Final = 3.0
#: Margin and grace each take at most this part of a lease: three fifths are left for renewals.
RESERVE_PART: Final = 0.2

# --- The controller's side of a lease -------------------------------------------------------------------------------

#: Reported capacity is used for this part of a lease: a grant must reach a worker that can still trust its lease, which
#: counts from the moment the report was sent. The rest leaves the worker time to start and to renew.
CAPACITY_TRUSTED_PART: Final = 2 / 3
#: Capacity reported this long after the transaction's timestamp, at most this part of a lease, is used all the same:
#: two controllers that come at once do not wait for each other.
CAPACITY_AHEAD: Final = 0.5
CAPACITY_AHEAD_PART: Final = 1 / 20
#: A worker was heard lately if its last heartbeat is younger than this part of a lease. A worker that was stopped for
#: so long that a lease ran out was not: its last heartbeat is as old as the lease.
HEARD_LATELY_PART: Final = 0.5
#: The store's clock was set if it moves by this part of a lease more or less than the time that has passed ...
CLOCK_TOLERANCE_PART: Final = 0.1
#: ... or by this much.
CLOCK_TOLERANCE: Final = 1.5
#: A worker that was silent for this long is deleted from the store.
WORKER_FORGOTTEN_AFTER: Final = 3600.0

# --- Outages --------------------------------------------------------------------------------------------------------

#: A store or a broker that has not answered for this part of a lease hangs. Workers have to learn of it before they end
#: attempts whose lease they cannot renew: with the default settings 5 s after the outage began at the earliest.
HANGS_PART: Final = 0.15
#: A controller looks this often, in parts of a lease, whether the broker has sent something since; if not, it asks.
BROKER_LOOKED_PART: Final = 1 / 80
#: A controller looks this often whether its status file is true: a worker with a short lease reads it soon.
STATUS_CHECKED_EVERY: Final = 0.25
#: A status file that is older does not count: its controller is gone ...
STATUS_FRESH_FOR: Final = 5.0
#: ... and it counts for at most this part of the time that a worker without renewals leaves it unread.
STATUS_FRESH_PART: Final = 0.95
#: A controller that has nothing new to say writes its status file so often while it is fresh.
STATUS_WRITTEN_TIMES: Final = 2.5
#: A worker without renewals reads the status files this often.
STATUS_READ_EVERY: Final = 2.0
#: When controllers can hear workers again after an outage, each worker has this long beyond a lease to come back: its
#: reconnect may take longer than theirs, and a broker that has just started is slow.
RETURN_TIME: Final = 10.0

# --- Messages -------------------------------------------------------------------------------------------------------

#: The broker drops an order after this time.
ORDER_LIFETIME: Final = 120.0
#: An order whose delivery is uncertain is sent again for this long, or for a lease if that is longer.
ORDER_RESENT_FOR: Final = 120.0
#: A worker remembers an attempt for this long after its lease: its order may come again, and then lie in the queue.
ORDER_REMEMBERED_FOR: Final = 240.0
#: The broker deletes the queue of a worker that was away for this long; the worker declares it again on its return.
QUEUE_LIFETIME: Final = 600.0
#: A worker remembers for this long when it sent each report: the lease of a grant counts from the report it answers.
REPORT_REMEMBERED_FOR: Final = 300.0


def heartbeat_interval(lease: float, heartbeat: float = DEFAULT_HEARTBEAT) -> float:
    """Return the time between two heartbeats; `heartbeat` is the worker's setting."""
    return min(heartbeat, lease / HEARTBEATS_PER_LEASE)


def lease_margin(lease: float) -> float:
    """Return how long before the end of a lease its attempt's processes are gone."""
    return min(LEASE_MARGIN, RESERVE_PART * lease)


def lease_grace(lease: float) -> float:
    """Return the longest time between SIGTERM and SIGKILL for an attempt whose lease runs out."""
    return min(LEASE_GRACE, RESERVE_PART * lease)


def capacity_ahead(lease: float) -> float:
    """Return how long after a transaction's timestamp reported capacity is still used in it."""
    return min(CAPACITY_AHEAD, CAPACITY_AHEAD_PART * lease)


def clock_tolerance(lease: float) -> float:
    """Return by how much the store's clock may be off before it counts as set."""
    return min(CLOCK_TOLERANCE, CLOCK_TOLERANCE_PART * lease)


def order_resent_for(lease: float) -> float:
    """Return for how long an order whose delivery is uncertain is sent again."""
    return max(ORDER_RESENT_FOR, lease)


def unrenewed_end(lease: float) -> float:
    """Return the time from now to the end of a lease that no controller can take away at this moment.

    A controller that becomes able grants a lease from then on and `RETURN_TIME`, and its status file may come as much
    as `STATUS_FRESH_FOR` later.
    """
    return lease + RETURN_TIME - STATUS_FRESH_FOR


def first_read(lease: float, heartbeat: float = DEFAULT_HEARTBEAT) -> float:
    """Return the time from the start of an outage to a worker's first look at the status files, at the least."""
    return lease - heartbeat_interval(lease, heartbeat) - lease_margin(lease) - lease_grace(lease)


def status_fresh_for(lease: float) -> float:
    """Return for how long a status file counts after it was written.

    It expires before a worker without renewals reads it. Otherwise the file of a controller that was killed would end
    attempts that no controller can take away.
    """
    # A worker's own setting cannot make the time between two heartbeats longer than this one.
    return min(STATUS_FRESH_FOR, STATUS_FRESH_PART * first_read(lease, math.inf))


def status_written_every(lease: float) -> float:
    """Return how often a controller writes its status file that has nothing new to say."""
    return status_fresh_for(lease) / STATUS_WRITTEN_TIMES


def _hurried_interval(lease: float, heartbeat: float) -> float:
    interval = heartbeat_interval(lease, heartbeat)
    return RENEWAL_MISSED * interval + min(HURRIED_AFTER, HURRIED_PART * interval)


#: Each rule says why the first length may not exceed the second one. Both follow from a lease and the worker's setting.
RULES: Final[tuple[tuple[str, Callable[[float, float], tuple[float, float]]], ...]] = (
    (
        "one heartbeat may get lost: the hurried one after it renews the lease before the attempt is ended",
        lambda lease, heartbeat: (
            _hurried_interval(lease, heartbeat),
            lease - lease_margin(lease) - lease_grace(lease),
        ),
    ),
    (
        "an attempt that is granted with a whole lease hurries no heartbeat",
        lambda lease, heartbeat: (
            RENEWED_WITHIN * heartbeat_interval(lease, heartbeat),
            lease - lease_margin(lease) - lease_grace(lease),
        ),
    ),
    (
        "an attempt whose order answers the oldest trusted capacity starts before its lease's margin",
        lambda lease, _: (CAPACITY_TRUSTED_PART * lease, lease - lease_margin(lease)),
    ),
    (
        "a lease that counts from before its capacity was reported ends within the worker's margin",
        lambda lease, _: (capacity_ahead(lease), lease_margin(lease)),
    ),
    (
        "a set clock that goes unnoticed shortens a lease by less than the worker's margin",
        lambda lease, _: (clock_tolerance(lease), lease_margin(lease)),
    ),
    (
        "a worker that lives was heard lately",
        lambda lease, heartbeat: (heartbeat_interval(lease, heartbeat), HEARD_LATELY_PART * lease),
    ),
    (
        "a worker that was stopped until its leases ended was not heard lately",
        lambda lease, _: (HEARD_LATELY_PART * lease, lease - lease_margin(lease) - lease_grace(lease)),
    ),
    (
        "a controller whose store or broker hangs says so before workers read its status file",
        lambda lease, heartbeat: (
            (2 * BROKER_LOOKED_PART + HANGS_PART) * lease + STATUS_CHECKED_EVERY,
            first_read(lease, heartbeat),
        ),
    ),
    (
        "a status file is written twice before it expires: one write may fail",
        lambda lease, _: (2 * max(status_written_every(lease), STATUS_CHECKED_EVERY), status_fresh_for(lease)),
    ),
    (
        "the status file of a killed controller expires before workers read it",
        lambda lease, heartbeat: (status_fresh_for(lease), first_read(lease, heartbeat)),
    ),
    (
        "a worker that no controller can reach reads the status files again before it would end its attempts",
        lambda lease, _: (STATUS_READ_EVERY, unrenewed_end(lease) - lease_margin(lease) - lease_grace(lease)),
    ),
    (
        "a worker ends an attempt before a controller that has just become able takes it away",
        lambda lease, _: (
            max(status_written_every(lease), STATUS_CHECKED_EVERY) + unrenewed_end(lease),
            lease + RETURN_TIME,
        ),
    ),
    (
        "a worker remembers an order for longer than it can arrive once more after the lease's end",
        lambda lease, _: (
            order_resent_for(lease) + ORDER_LIFETIME - (1 - CAPACITY_TRUSTED_PART) * lease,
            ORDER_REMEMBERED_FOR + order_resent_for(lease) - ORDER_RESENT_FOR,
        ),
    ),
    (
        "an order can lie in the queue of a worker that is away for as long as it lives",
        lambda *_: (ORDER_LIFETIME, QUEUE_LIFETIME),
    ),
    (
        "a worker remembers the report that told its capacity last",
        lambda lease, heartbeat: (heartbeat_interval(lease, heartbeat), REPORT_REMEMBERED_FOR),
    ),
    (
        "a worker is known until its leases have ended",
        lambda lease, _: (lease + RETURN_TIME, WORKER_FORGOTTEN_AFTER),
    ),
)


def find_violations(lease: float, heartbeat: float = DEFAULT_HEARTBEAT) -> list[str]:
    """Return the rules that these settings break.

    None is broken by a lease between `SHORTEST_LEASE` and a quarter of an hour. With longer leases and heartbeats the
    last two may be: a worker then hands grants back that it could have run, and no attempt runs twice.
    """
    return [sentence for sentence, sides in RULES if operator.gt(*sides(lease, heartbeat))]
