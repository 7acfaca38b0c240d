"""Named mechanisms that a test can switch off in its own process, to show that it would notice if they were missing.

The product asks `ablated` at the mechanism. Only `without` switches one off, and only tests call it: there is no
setting and no environment variable, so nothing that runs in production loses a mechanism.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

#: Every switch, and what is missing without its mechanism.
ABLATIONS: Final[Mapping[str, str]] = {
    # Attempts, claims and leases.
    "attempt_guard": "A result counts although another attempt or another worker holds the task.",
    "claim_guard": "A claim takes tasks that run already.",
    "lease_fence": "A worker lets an attempt run on when its lease ends.",
    "start_fence": "A worker that was paused starts attempts whose lease ended meanwhile.",
    "lease_watchdog": "Attempts whose lease has run out stay RUNNING.",
    "renewal_refusal": "A worker is not told that an attempt has lost its claim.",
    "retry_watchdog": "Tasks whose wait is over stay PENDING.",
    "loss_limit": "A task that loses worker after worker never fails.",
    "suspect_isolation": "A task whose next lost worker would be its last runs beside others.",
    "start_room": "More tasks of a worker count as started than it has slots.",
    "dead_incarnations": "The controller ignores which earlier incarnations of a worker are dead.",
    # Messages.
    "old_grant_refusal": "A worker starts attempts whose order came after the end of their lease.",
    "grant_memory": "A worker takes an order that comes a second time for a new one.",
    "undelivered_orders": "Attempts of an order that the broker refused are not handed back.",
    "unconfirmed_orders": "An order that the broker has not confirmed counts as refused.",
    "repeated_heartbeats": "An old heartbeat that comes again renews leases.",
    "commit_before_orders": "Orders are sent before the transaction that claims their tasks is committed.",
    # Jobs, stages and tasks.
    "idempotency_key": "A request that is sent twice makes two jobs.",
    "cache_etag": "A job is taken from memory although it has changed in the store.",
    "task_withdrawal": "When a job or a stage ends, its open tasks stay as they are.",
    "stage_order": "Stages do not wait for those in front of them.",
    "stage_completion": "A stage ends before all its tasks have ended.",
    "parallel_limit": "More tasks of a stage run at the same time than it allows.",
    "expansion_check": "Two controllers add the same chunk of items.",
    "secret_erasure": "Secrets stay in the store when their job has ended.",
    # The order among jobs.
    "priority_order": "Tasks of a higher priority are not claimed first.",
    "job_turns": "A job that was given its share keeps its place in line.",
    "new_place": "A stage that has tasks to claim again comes back to its old place in line.",
    "equal_shares": "The first job in line takes all free slots.",
    "waiting_priority": "Of the tasks that wait at a worker, those of a higher priority do not start first.",
    "waiting_turns": "Of the tasks that wait at a worker, those of one job start one after another.",
    # Private files.
    "files_after_commit": "Files of an attempt are published before the attempt counts.",
    "files_wait": "A stage does not wait until the files of those in front of it are published.",
    "files_sweep": "Files stay unpublished when the controller that was to publish them has died.",
    # Live control: pauses and waits.
    "stage_pause": "Tasks of a paused stage are claimed.",
    "stage_block": "A later stage that runs already goes on when one in front of it is opened again.",
    "paused_count": "A paused task that ends its attempt is missing from its stage's count of paused tasks.",
    "kill_lease": "The next attempt does not wait until a killed one has ended.",
    "cancel_lease": "The next attempt does not wait until a cancelled one has ended.",
    "reopen_wait": "Tasks that are opened again are claimable while their last attempt may still run.",
    "last_lease_wait": "The lease of an attempt that has lost its claim counts as over at once.",
    "last_lease_patience": "Last leases count as over although workers could not be heard.",
    "last_lease_shortening": "Last leases stay too long when the clock has been set back.",
    "wait_shortening": "Waits for a retry stay too long when the clock has been set back.",
    # Live control: what a request names.
    "retry_refusal": "A retry is accepted although its job would end before all of it could run.",
    "misfit_refusal": "A task whose item does not fit its class is retried.",
    "listed_etag": "A list of tasks is carried out for tasks that have changed since they were read.",
    "etag_check": "A verb is carried out on a job, stage or task that has changed since it was read.",
    "listed_gaps": "Tasks between two listed ones are retried as well.",
    "state_choice": "A verb ignores the state that its choice names.",
    "span_choice": "A verb ignores the indexes that its choice names.",
    "lost_secrets": "A retry runs tasks whose own secrets were erased.",
    "given_secrets": "The secrets that a retry brings for its job are not kept.",
}

_switched_off: Final[dict[str, bool]] = dict.fromkeys(ABLATIONS, False)


def ablated(name: str) -> bool:
    """Tell whether a test has switched this mechanism off."""
    return _switched_off[name]


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Switch a mechanism off in this process, for as long as the block lasts; for tests only."""
    if name not in ABLATIONS:
        raise ValueError(f"there is no ablation {name!r}; there are: {', '.join(ABLATIONS)}")
    before = _switched_off[name]
    _switched_off[name] = True
    try:
        yield
    finally:
        _switched_off[name] = before
