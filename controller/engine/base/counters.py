"""Counters of the engine, for Prometheus. One registry per process, made by the composition root."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from echelon.shared.messages import Finished, Outcome

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1_800, 7_200, 43_200)
#: Task classes with a count of their own.
_CLASSES = 200


class Counters:
    """Counts since the start of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.submitted = Counter("echelon_jobs_submitted", "Jobs accepted.", registry=registry)
        self.granted = Counter("echelon_attempts_granted", "Attempts given to workers.", registry=registry)
        settled = Counter(
            "echelon_attempts_settled", "Attempts that counted, by outcome.", ["outcome"], registry=registry
        )
        #: By outcome: a look-up among labels costs as much as the count.
        self._settled = {outcome: settled.labels(outcome.value) for outcome in Outcome}
        self._seconds = Histogram(
            "echelon_attempt_seconds", "How long attempts ran.", buckets=_SECONDS, registry=registry
        )
        self._failed = Counter(
            "echelon_attempts_failed", "Attempts that failed, by class.", ["task_class", "outcome"], registry=registry
        )
        self._classes: set[str] = set()
        self.stale = Counter(
            "echelon_reports_stale", "Results of attempts that had lost their claim.", registry=registry
        )
        self.lost = Counter("echelon_leases_expired", "Attempts whose lease ran out.", registry=registry)
        self.undelivered = Counter("echelon_orders_undelivered", "Orders that no worker took.", registry=registry)
        self.rejected = Counter("echelon_reports_rejected", "Reports that could not be carried out.", registry=registry)
        self.faults = Counter("echelon_engine_faults", "Turns of the engine that failed.", registry=registry)

    def count_settled(self, ended: Sequence[Finished]) -> None:
        """Count attempts that have ended, and how long they ran."""
        for outcome, count in Counts([one.outcome for one in ended]).items():
            self._settled[outcome].inc(count)
        for one in ended:
            if one.seconds:
                self._seconds.observe(one.seconds)

    def count_failed(self, task_class: str, outcome: Outcome) -> None:
        """Count a failed attempt; composed jobs bring classes of any name, so the names are limited."""
        if len(self._classes) < _CLASSES:
            self._classes.add(task_class)
        self._failed.labels(task_class if task_class in self._classes else "other", outcome.value).inc()
