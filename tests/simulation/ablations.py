"""Which simulation notices the loss of which mechanism, and where the search for a seed begins."""

from __future__ import annotations

from echelon.shared.ablation import ABLATIONS

#: Mechanisms of live control: their loss is noticed when people interfere (see `hands`).
OF_LIVE_CONTROL = (
    "stage_pause",
    "stage_block",
    "paused_count",
    "kill_lease",
    "cancel_lease",
    "reopen_wait",
    "last_lease_wait",
    "last_lease_patience",
    "last_lease_shortening",
    "wait_shortening",
    "retry_refusal",
    "misfit_refusal",
    "listed_etag",
    "etag_check",
    "listed_gaps",
    "state_choice",
    "span_choice",
    "lost_secrets",
    "given_secrets",
)
#: All others: their loss is noticed in the simulation of faults alone.
OF_FAULTS = tuple(name for name in ABLATIONS if name not in OF_LIVE_CONTROL)

#: Where the search for a seed that notices begins, for those that few seeds notice. Only a matter of speed: when the
#: product changes, another seed of the three hundred after it will do.
BEGIN_AT = {
    "expansion_check": 360,
    "last_lease_patience": 220,
    "lease_fence": 100,
    "new_place": 70,
    "old_grant_refusal": 62,
    "renewal_refusal": 95,
    "waiting_turns": 80,
}
