"""Counters of the engine, for Prometheus. One registry per process, made by the composition root."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Counters:
    """Counts since the start of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.submitted = Counter("echelon_jobs_submitted", "Jobs accepted.", registry=registry)
        self.granted = Counter("echelon_attempts_granted", "Attempts given to workers.", registry=registry)
        self.settled = Counter(
            "echelon_attempts_settled", "Attempts that counted, by outcome.", ["outcome"], registry=registry
        )
        self.stale = Counter(
            "echelon_reports_stale", "Results of attempts that had lost their claim.", registry=registry
        )
        self.lost = Counter("echelon_leases_expired", "Attempts whose lease ran out.", registry=registry)
        self.undelivered = Counter("echelon_orders_undelivered", "Orders that no worker took.", registry=registry)
        self.rejected = Counter("echelon_reports_rejected", "Reports that could not be carried out.", registry=registry)
        self.faults = Counter("echelon_engine_faults", "Turns of the engine that failed.", registry=registry)
