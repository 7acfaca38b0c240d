"""Figures of the REST interface and of the store, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from echelon.controller.core.states import OPEN, State
from echelon.controller.datastore.port import Datastore
from echelon.shared.errors import Unavailable

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class RequestFigures:
    """Counts requests and shows what stands in the store. One per registry."""

    def __init__(self, registry: CollectorRegistry, store: Datastore) -> None:
        self._registry = registry
        self._requests = Counter(
            "echelon_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "echelon_http_request_seconds",
            "Time until an answer began, in seconds.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        registry.register(_Store(store))

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the rule, never the path: paths are without number."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render_figures(self) -> bytes:
        """Return every figure in Prometheus' own format."""
        return generate_latest(self._registry)


class _Store(Collector):
    """Asks the store when it is asked itself."""

    def __init__(self, store: Datastore) -> None:
        self._store = store

    def describe(self) -> Iterator[Metric]:
        """Return no names: the store may not be there yet when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("echelon_store_up", "1 when the datastore answers.")
        try:
            with self._store.read() as reader:
                counts = reader.count_states()
        except Unavailable:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        jobs = GaugeMetricFamily("echelon_jobs", "Jobs by state.", labels=["state"])
        for state in State:
            if state is not State.QUEUED:
                jobs.add_metric([state], counts["jobs"].get(state, 0))
        yield jobs
        tasks = GaugeMetricFamily("echelon_open_tasks", "Tasks that have not ended, by state.", labels=["state"])
        for state in sorted(OPEN):
            tasks.add_metric([state], counts["tasks"].get(state, 0))
        yield tasks
