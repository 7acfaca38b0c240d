"""Metrics of a worker, for Prometheus, at an address of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from prometheus_client import start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from echelon.shared.address import Address
from echelon.shared.errors import Conflict
from echelon.worker.attempt_log import REGISTRY
from echelon.worker.serve import WorkerService


def serve_metrics(address: Address, worker: WorkerService, *, is_connected: Callable[[], bool], folder: str) -> None:
    """Serve the metrics in a thread, which ends with the process; raise Conflict if the address cannot be used."""
    try:
        start_http_server(address.port, address.host, registry=REGISTRY)
    except OSError as error:
        raise Conflict(f"metrics cannot be served at {address}: {error.strerror or error}") from error
    REGISTRY.register(WorkerCollector(worker, is_connected=is_connected, folder=folder))


class WorkerCollector(Collector):
    """Looks at the worker when it is asked."""

    def __init__(self, worker: WorkerService, *, is_connected: Callable[[], bool], folder: str) -> None:
        self._worker = worker
        self._is_connected = is_connected
        self._folder = folder

    def describe(self) -> Iterator[Metric]:
        """Return no names: they need not be known before."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        held = self._worker.holdings.list_held()
        running = sum(one.pool is not None for one in held)
        yield _make_gauge("echelon_worker_running", "Attempts that run here.", running)
        yield _make_gauge("echelon_worker_waiting", "Attempts that wait here for a slot.", len(held) - running)
        yield _make_gauge("echelon_worker_slots", "Slots of this worker.", self._worker.slot_count)
        yield _make_gauge("echelon_worker_broker_up", "1 when the broker takes messages.", int(self._is_connected()))
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return
        yield _make_gauge("echelon_worker_disk_free_bytes", "Bytes free on the volume.", disk.f_bavail * disk.f_frsize)


def _make_gauge(name: str, words: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(name, words)
    gauge.add_metric([], value)
    return gauge
