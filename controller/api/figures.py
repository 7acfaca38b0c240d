"""Figures of the REST interface and of the store, for Prometheus."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from echelon.controller.core.states import OPEN, State
from echelon.controller.datastore.records import QueueView, WorkerView
from echelon.controller.engine.jobs import Jobs
from echelon.controller.engine.why.health import ask_disks
from echelon.shared.errors import Unavailable

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class RequestFigures:
    """Counts requests and shows what stands in the store. One per registry."""

    def __init__(self, jobs: Jobs, *, lost_after: float) -> None:
        self._registry = registry = jobs.counters.registry
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
        registry.register(_Store(jobs, lost_after))

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the rule, never the path: paths are without number."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render_figures(self) -> bytes:
        """Return every figure in Prometheus' own format."""
        return generate_latest(self._registry)


class _Store(Collector):
    """Asks the store, the broker and the disks when it is asked itself."""

    def __init__(self, jobs: Jobs, lost_after: float) -> None:
        self._jobs = jobs
        self._lost_after = lost_after

    def describe(self) -> Iterator[Metric]:
        """Return no names: the store may not be there yet when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_systems()
        up = GaugeMetricFamily("echelon_store_up", "1 when the datastore answers.")
        try:
            with self._jobs.store.read() as reader:
                counts, workers = reader.count_states(), reader.list_workers(lost_after=self._lost_after)
                queues, ages = reader.count_queues(), reader.find_oldest_stages()
        except Unavailable:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        jobs = {str(state): counts["jobs"].get(state, 0) for state in State if state is not State.QUEUED}
        yield _make_gauge("echelon_jobs", "Jobs by state.", "state", jobs)
        tasks = {str(state): counts["tasks"].get(state, 0) for state in sorted(OPEN)}
        yield _make_gauge("echelon_open_tasks", "Tasks that have not ended, by state.", "state", tasks)
        yield from _collect_workers(workers)
        ready, running = ({one.queue: count(one) for one in queues} for count in (_count_ready, _count_running))
        yield _make_gauge("echelon_queue_waiting", "Tasks that wait for a slot.", "queue", ready)
        yield _make_gauge("echelon_queue_running", "Tasks that run.", "queue", running)
        words = "Seconds since the start of the oldest stage with tasks that wait for a slot."
        yield _make_gauge("echelon_queue_oldest_stage_seconds", words, "queue", ages)

    def _collect_systems(self) -> Iterator[Metric]:
        broker = GaugeMetricFamily("echelon_broker_up", "1 when the broker takes messages.")
        broker.add_metric([], int(self._jobs.is_broker_connected))
        yield broker
        free = {folder: disk for folder, disk in ask_disks(self._jobs.disks).items() if disk is not None}
        sizes = {folder: disk.f_bavail * disk.f_frsize for folder, disk in free.items()}
        yield _make_gauge("echelon_disk_free_bytes", "Bytes free on the disk of a folder.", "folder", sizes)
        files = {folder: disk.f_favail for folder, disk in free.items()}
        yield _make_gauge("echelon_disk_free_files", "Files free on the disk of a folder.", "folder", files)


def _collect_workers(workers: Sequence[WorkerView]) -> Iterator[Metric]:
    states = Counts(one.state for one in workers)
    shown = {state: states[state] for state in ("UP", "DRAINING", "LOST")}
    yield _make_gauge("echelon_workers", "Workers by state.", "state", shown)
    slots: Counts[str] = Counts()
    for one in workers:
        if one.state == "UP":
            slots.update(one.slots)
    yield _make_gauge("echelon_slots", "Slots of workers that are up; * serves any queue.", "queue", slots)


def _make_gauge(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    gauge = GaugeMetricFamily(name, words, labels=[label])
    for value, count in values.items():
        gauge.add_metric([value], count)
    return gauge


def _count_ready(view: QueueView) -> int:
    return view.ready


def _count_running(view: QueueView) -> int:
    return view.running
