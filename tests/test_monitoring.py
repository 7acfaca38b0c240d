"""Alert rules and the dashboard name metrics that exist, with labels that they have."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from echelon.shared.address import Address
from echelon.shared.errors import Conflict
from echelon.shared.messages import ANY_QUEUE, Outcome
from echelon.worker.attempt_log import ENDED, REGISTRY
from echelon.worker.metrics import WorkerCollector, serve_metrics
from echelon.worker.serve import WorkerService
from tests.api.stand import API, Stand
from tests.engine.house import Puppet

FOLDER = Path(__file__).resolve().parent.parent / "deploy/monitoring"
PAGE = FOLDER.parents[1] / "docs" / "how-to" / "monitor.md"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
PANELS = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))["panels"]
QUERIES = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(tmp_path_factory.mktemp("monitoring"))
    puppet = Puppet(made, room={ANY_QUEUE: 1})
    made.submit("hello")
    puppet.finish(puppet.take(), Outcome.FAILED, error="exit code 3", seconds=0.2)
    made.submit("hello")
    puppet.take()
    made.submit("hello")
    made.client.get(f"{API}/jobs")
    yield made
    made.close()


@pytest.fixture(scope="module")
def metrics(stand: Stand) -> dict[str, dict[str, set[str]]]:
    """Give the labels of each metric, with their values: those of a controller and of a worker."""
    idle = SimpleNamespace(holdings=SimpleNamespace(list_held=list), slot_count=4)
    collector = WorkerCollector(cast(WorkerService, idle), is_connected=lambda: True, folder="/")
    ENDED.labels("completed").inc()
    REGISTRY.register(collector)
    of_worker = generate_latest(REGISTRY).decode()
    REGISTRY.unregister(collector)
    found: dict[str, dict[str, set[str]]] = {}
    for text in (stand.client.get("/metrics").text, of_worker):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    return found


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_names_metrics_that_exist(metrics: dict[str, dict[str, set[str]]], query: str) -> None:
    names = re.findall(r"\b(echelon_\w+|up)\b(?:\{([^}]*)\})?", query)

    assert names
    for name, chosen in names:
        if name == "up":
            continue
        assert name in metrics
        for label, value in re.findall(r'(\w+)="([^"]*)"', chosen):
            assert value in metrics[name][label], f"{name} has no {label}={value}"
    known = {label for name, _ in names for label in metrics.get(name, {})} | {"instance"}
    for by in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in by.split(",")} <= known


def test_the_page_lists_every_metric_with_its_labels(metrics: dict[str, dict[str, set[str]]]) -> None:
    page = PAGE.read_text(encoding="utf-8").partition("| metric | says |")[2]
    listed = {
        name: set(filter(None, labels.split(",")))
        for name, labels in re.findall(r"`(echelon_\w+)(?:\{(.*?)\})?`", page)
    }

    found: dict[str, set[str]] = {}
    for name, labels in metrics.items():
        if name.startswith("echelon_") and not name.endswith("_created"):
            found.setdefault(re.sub("_(bucket|sum|count)$", "", name), set()).update(labels.keys() - {"le"})

    assert listed == found


def test_every_metric_of_a_controller_has_a_value_that_is_so(stand: Stand) -> None:
    def value(name: str, **labels: str) -> Any:
        return stand.jobs.counters.registry.get_sample_value(name, labels)

    assert value("echelon_workers", state="UP") == 1
    assert value("echelon_slots", queue="*") == 1
    assert value("echelon_queue_waiting", queue="default") == 1
    assert value("echelon_queue_running", queue="default") == 1
    assert value("echelon_queue_oldest_stage_seconds", queue="default") >= 0
    assert value("echelon_attempts_failed_total", task_class="say", outcome="failed") == 1
    assert value("echelon_attempt_seconds_count") == 1
    assert value("echelon_broker_up") == 1
    (folder,) = stand.settings.disks
    assert value("echelon_disk_free_bytes", folder=str(folder)) > 0


def test_an_alert_has_words_and_a_severity() -> None:
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "ticket") for rule in RULES)


def test_names_of_classes_that_requests_bring_do_not_grow_without_end(stand: Stand) -> None:
    counters = stand.jobs.counters
    for number in range(1_000):
        counters.count_failed(f"class {number}", Outcome.FAILED)

    failed = [line for line in generate_latest(counters.registry).decode().splitlines() if "failed_total{" in line]
    assert len(failed) < 250


def test_an_address_that_is_taken_is_refused_with_its_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(Conflict, match=f"metrics cannot be served at {address}"):
            serve_metrics(address, cast(WorkerService, None), is_connected=lambda: True, folder="/")
