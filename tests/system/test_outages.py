"""Broker and database away for a while: what runs goes on, what is asked is kept, what is garbage is buried."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest
import requests

from echelon.shared.command import ExitCode
from echelon.shared.messages import DEAD, REPORTS
from tests.contract.canary import files_with
from tests.contract.servers import fresh_database
from tests.system.cluster import Cluster, Shape
from tests.system.drills import CATALOGUE, Job, Show, broker_back, database_back, pass_by, whole, within
from tests.system.process import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Seconds that RabbitMQ lets a delivery be unacknowledged in these tests; and between its looks.
CONSUMER_TIMEOUT, TICK = 3.0, 1.0
SLOTS = 2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("outages")
    with Cluster(
        folder, CATALOGUE, Shape(workers=2, slots=SLOTS), consumer_timeout=int(CONSUMER_TIMEOUT * 1000)
    ) as one:
        one.rabbit.control("eval", f"application:set_env(rabbit, channel_tick_interval, {TICK * 1000:.0f}).")
        # The setting is read by new channels.
        one.rabbit.control("close_all_connections", "so that channels are new")
        whole(one)
        yield one


def test_a_task_longer_than_the_consumer_timeout_runs_once_and_short_ones_do_not_wait_behind_it(
    cluster: Cluster,
) -> None:
    long = [Job(cluster, "wait") for _ in range(SLOTS)]
    for one in long:
        one.started()
    for _ in range(4):
        pass_by(CONSUMER_TIMEOUT * 0.7)
        short = Job(cluster, "quick")
        begun = time.time()
        assert short.started() - begun < 5.0
        assert short.finish() == "COMPLETED"
    assert _closed_by_the_node(cluster), "this node did not mind a delivery that nobody acknowledges"
    for one in long:
        assert one.finish() == "COMPLETED"
        assert len(one.starts) == one.attempts == 1


def _closed_by_the_node(cluster: Cluster) -> bool:
    """Hold a delivery for longer than the node allows, and tell whether it closed the channel."""
    connection = pika.BlockingConnection(pika.URLParameters(cluster.rabbit.url))
    try:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"held")
        channel.basic_consume(queue, lambda *_: None)
        over = time.monotonic() + 4.0 * CONSUMER_TIMEOUT
        while channel.is_open and time.monotonic() < over:
            connection.process_data_events(time_limit=0.5)
        return not channel.is_open
    except pika.exceptions.ChannelClosedByBroker:
        return True
    finally:
        connection.close()


def test_while_the_broker_is_away_longer_than_a_lease_tasks_go_on_and_run_once_and_jobs_are_taken(
    cluster: Cluster,
    record_property: Show,
) -> None:
    # RabbitMQ keeps the machine busy for some seconds after its first answer.
    within(broker_back(cluster, away=2.0 * cluster.shape.lease), 5.0, record_property, asserted=10.0)


def test_an_order_that_was_delivered_before_its_confirm_got_lost_with_the_connection_runs_once(
    cluster: Cluster,
) -> None:
    controller = cluster.controllers[0]
    link = controller.links["broker"]
    link.swallow(up=False, down=True)
    job = Job(cluster, "wait")
    job.started()

    link.cut()
    link.heal()
    until(lambda: "not confirmed; they are sent again" in controller.log.read_text(), "the controller is in doubt")
    whole(cluster)

    assert job.finish() == "COMPLETED"
    assert len(job.starts) == job.attempts == 1


def test_while_the_database_is_away_the_api_says_503_and_when_to_come_again(
    cluster: Cluster, record_property: Show
) -> None:
    within(database_back(cluster), 5.0, record_property)


def test_a_controller_that_starts_before_its_database_answers_at_once_and_goes_on_when_it_comes(
    cluster: Cluster,
) -> None:
    assert cluster.postgresql is not None
    program, url = cluster.controllers[0], cluster.urls[0]
    program.kill()
    cluster.postgresql.stop()
    try:
        program.start()
        until(lambda: cluster.answering(url), "it answers")
        assert requests.get(f"{url}/healthz", timeout=10.0).status_code == 200
        submitted = requests.post(f"{url}/api/v1/jobs", json={"type": "quick", "input": {}}, timeout=10.0)
        for answer in (submitted, *(requests.get(f"{url}/{path}", timeout=10.0) for path in ("api/v1/jobs", "readyz"))):
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0, answer.text
    finally:
        cluster.postgresql.start()
    whole(cluster)
    assert program.running
    assert Job(cluster, "quick").finish() == "COMPLETED"


def test_a_controller_does_not_start_on_a_database_that_was_not_migrated(cluster: Cluster) -> None:
    assert cluster.postgresql is not None
    with fresh_database(cluster.postgresql.url) as empty:
        stranger = cluster.stranger(
            "stranger", "controller", "--catalogue", str(cluster.catalogue), "--volume", str(cluster.volume),
            "--broker", cluster.rabbit.url, "--listen", "127.0.0.1:0", "--datastore", empty,
        )  # fmt: skip
        stranger.start()
        assert stranger.wait() == ExitCode.ENGINE
    assert "run `echelon migrate`" in stranger.log.read_text()


def test_a_controller_that_starts_with_a_torn_catalogue_serves_the_last_good_one_and_takes_it_when_mended(
    cluster: Cluster,
) -> None:
    program, url = cluster.controllers[0], cluster.urls[0]
    program.kill()
    cluster.catalogue.write_text(CATALOGUE[: len(CATALOGUE) // 2] + "\n  - {]")
    try:
        program.start()
        until(lambda: cluster.answering(url), "it answers")
        assert Job(cluster, "quick").finish() == "COMPLETED"
        ready = requests.get(f"{url}/readyz", timeout=10.0)
        assert ready.status_code == 200
        assert not _catalogue(ready)["ok"] and str(cluster.catalogue) in _catalogue(ready)["detail"]
    finally:
        cluster.catalogue.write_text(CATALOGUE)
    until(lambda: _catalogue(requests.get(f"{url}/readyz", timeout=10.0))["ok"], "the mended catalogue is taken")
    assert program.running
    assert "the last good one, is in force" in program.log.read_text()


def _catalogue(ready: requests.Response) -> dict[str, Any]:
    return next(part for part in ready.json()["parts"] if part["name"] == "catalogue")


def test_a_job_ends_though_the_queues_are_deleted_again_and_again(cluster: Cluster) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(cluster.rabbit.url))
    try:
        jobs = [Job(cluster, "wait") for _ in range(3)]
        jobs[0].started()
        cluster.note_lives()
        for worker in cluster.workers:
            connection.channel().queue_delete(REPORTS)
            connection.channel().queue_delete(f"echelon.v1.orders.{worker.lives[-1].worker_id}")
            jobs.append(Job(cluster, "quick"))
        for job in jobs:
            job.started()
            assert job.finish() == "COMPLETED"
    finally:
        connection.close()


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[" * 100_000, b'{"kind":"report","v":99,"worker":"x","number":1}', b"\xff\xfe", b"x" * 5_000_000],
    ids=["words", "deep", "other version", "no text", "5 MB"],
)
def test_garbage_goes_to_the_dead_queue_with_a_reason_and_harms_nobody(cluster: Cluster, body: bytes) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(cluster.rabbit.url))
    try:
        channel = connection.channel()
        channel.queue_purge(DEAD)
        channel.basic_publish("", REPORTS, body)
        found: list[pika.BasicProperties] = []

        def buried() -> bool:
            method, properties, _ = channel.basic_get(DEAD, auto_ack=True)
            found.extend([properties] if method else [])
            return bool(found)

        until(buried, "the message is in the dead queue", 15.0)
        assert found[0].headers["reason"] and found[0].headers["queue"] == REPORTS
    finally:
        connection.close()
    assert Job(cluster, "quick").finish() == "COMPLETED"


def test_no_secret_stands_in_clear_in_the_files_of_broker_store_and_engine(cluster: Cluster) -> None:
    canary = f"S3CR3T-{uuid.uuid4().hex}"
    # No worker takes the orders: they are in the broker's files when it is killed.
    job = Job(cluster, "whisper", {"X-Token": canary})
    job.started()
    cluster.rabbit.stop(signal.SIGKILL)
    assert cluster.postgresql is not None
    folders = [cluster.rabbit.home, cluster.postgresql.home, cluster.folder]
    found = [path for folder in folders for path in files_with(folder, canary.encode())]
    cluster.rabbit.start()
    assert found == []
    assert (job.folder / "length").read_text().strip() == str(len(canary))
    assert job.finish() == "COMPLETED"
    assert cluster.psql("SELECT count(*) FROM job_inputs WHERE sealed IS NOT NULL") == [(0,)]
    whole(cluster)


def test_during_a_memory_alarm_the_api_takes_jobs_and_they_run_when_it_is_over(cluster: Cluster) -> None:
    cluster.rabbit.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        job = Job(cluster, "quick")
        answer = requests.get(f"{cluster.urls[1]}/api/v1/jobs/{job.job_id}", timeout=10.0)
        assert answer.status_code == 200
    finally:
        cluster.rabbit.control("set_vm_memory_high_watermark", "0.4")
    assert job.finish() == "COMPLETED"
