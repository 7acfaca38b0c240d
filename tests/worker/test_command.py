"""`echelon worker`: what it refuses, and a worker in a process of its own on a real RabbitMQ."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from echelon.shared.broker.port import Outgoing, Subscription
from echelon.shared.broker.rabbitmq import RabbitBroker
from echelon.shared.ids import WorkerId, new_job_id, new_task_ids
from echelon.shared.messages import (
    ANY_QUEUE,
    REPORTS,
    Grant,
    GrantedTask,
    Orders,
    Outcome,
    Recipe,
    Report,
    orders_queue,
)
from echelon.shared.signing import make_signer
from echelon.shared.volume import Volume
from echelon.worker.command import _await_volume, worker
from echelon.worker.settings import resolve_options
from tests.contract.rabbit import rabbitmq_server
from tests.contract.servers import free_port
from tests.system.process import until

__all__ = ["rabbitmq_server"]

PATIENCE = 30.0
CLEAN = {name: None for name in os.environ if name.startswith("ECHELON_")} | {"ECHELON_CONFIG": "/dev/null"}
START = "from echelon.worker.command import worker; worker()"


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    volume = Volume.create(tmp_path / "volume")
    volume.install_files("r1", None)
    return volume


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--volume"),
        (["--volume", "v"], "a broker is needed"),
        (["--volume", "v", "--broker", "amqp://h/", "--queue", "default"], "--queue: 'default' cannot be used"),
        (["--volume", "v", "--broker", "amqp://h/", "--queue", "default:0"], "write NAME:SLOTS"),
        (["--volume", "v", "--broker", "amqp://h/", "--drain-timeout", "-1"], "--drain-timeout"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str], said: str) -> None:
    done = CliRunner(env=CLEAN).invoke(worker, arguments)

    assert done.exit_code == 2
    assert said in done.output


def test_the_help_names_the_variable_of_a_file() -> None:
    told = " ".join(CliRunner().invoke(worker, ["--help"]).output.split())

    assert "[ECHELON_BROKER_FILE]" in told


def test_a_url_that_cannot_be_used_is_not_shown(volume: Volume, tmp_path: Path) -> None:
    secret = tmp_path / "broker"
    secret.write_text("http://user:hush@host/\n")

    done = CliRunner().invoke(worker, ["--volume", volume.root, "--broker-file", str(secret)])

    assert done.exit_code == 2
    assert "amqp://user:password@host:5672/" in done.output
    assert "hush" not in done.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("volume = ", "echelon.toml"),
        ("[worker]\nslots = 3", "[worker] is a table of"),
        ("worker = 3", "[worker] is a table of"),
        ('volume = "v"\nbroker = "amqp://h/"\n[worker]\nqueue = ["default"]', "[worker] queue: 'default'"),
        ('volume = "v"\nbroker = "amqp://h/"\nheartbeat = "soon"', "write a number of seconds"),
        ('volume = "v"\nbroker = "amqp://h/"\nheartbeat = 0', "write at least 0.1"),
        ('volume = "v"\nbroker = "amqp://h/"\nqueue_type = "mirrored"', "write one of classic, quorum"),
        ('volume = "v"\nbroker_file = "none"', "cannot read"),
        ('listen = "127.0.0.1:80"\nvolume = "v"\nslots = 3', "a broker is needed"),
    ],
)
def test_a_mistake_in_the_config_file_is_a_usage_error(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "echelon.toml").write_text(content)

    done = CliRunner(env=CLEAN).invoke(worker, ["--config", str(tmp_path / "echelon.toml")])

    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("written", "variables", "flags", "said"),
    [
        ('broker = "file://"', {}, {}, "file"),
        ('broker = "file://"\n[worker]\nbroker_file = "url"', {}, {}, "kept"),
        ('broker_file = "url"', {"ECHELON_BROKER": "variable://"}, {}, "variable"),
        ("", {"ECHELON_BROKER_FILE": "url", "ECHELON_BROKER": "variable://"}, {"broker": "flag://"}, "flag"),
        ("", {"ECHELON_BROKER": "variable://"}, {"broker_file": "url"}, "kept"),
    ],
)
def test_a_flag_stands_over_a_variable_and_that_over_the_file_however_a_url_is_given(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    variables: dict[str, str],
    flags: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("echelon.toml").write_text(f'volume = "volume"\n{written}')
    Path("url").write_text("kept://\n")

    options = resolve_options(flags, {"ECHELON_CONFIG": "echelon.toml"} | variables)

    assert options.broker == f"{said}://"


def test_what_a_worker_is_told_in_its_own_table_stands_over_what_all_are_told(tmp_path: Path) -> None:
    (tmp_path / "echelon.toml").write_text(
        'volume = "all"\nheartbeat = "1s"\nname = "of nobody"\nlease = "9s"\n'
        '[worker]\nheartbeat = "2s"\nname = "north-1"\nstate_dir = "state"\nqueue = ["rare:3", "2"]\n'
    )

    found = resolve_options({}, {"ECHELON_MAX_OUTPUT": "2KiB"}, file=tmp_path / "echelon.toml")

    assert (found.volume, found.state_dir) == (tmp_path / "all", tmp_path / "state")
    assert (found.heartbeat, found.name, found.max_output) == (2.0, "north-1", 2048)
    assert found.queue == (("rare", 3), (ANY_QUEUE, 2))


class Desk:
    """Sits where a controller does, behind a broker that other tests use too."""

    def __init__(self, broker: RabbitBroker, volume: Volume) -> None:
        self.broker = broker
        self.volume = volume
        self.subscription: Subscription = broker.subscribe([REPORTS], prefetch=1000)

    def hear_until(self, name: str, enough: Callable[[Report], object]) -> Report:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for delivery in self.subscription.take_deliveries(limit=1, timeout=1.0):
                self.subscription.ack([delivery])
                message = delivery.message
                if isinstance(message, Report) and name in (message.worker, _name(message)) and enough(message):
                    return message
        raise AssertionError("not heard")

    def grant(self, report: Report, script: str) -> None:
        tasks = (GrantedTask(new_task_ids(1)[0], 1, 0),)
        recipe = Recipe(task_class="t", exec_command="sh", exec_args=("-c", script), grace=0.5)
        grant = Grant(new_job_id(), 0, "Stage", "r1", "default", recipe, {}, {}, tasks)
        orders = Orders(report.worker, 1, report.number, 15.0, (grant,))
        self.broker.publish([Outgoing(orders_queue(report.worker), orders)])


def _name(report: Report) -> WorkerId | str:
    return report.card.name if report.card else ""


@pytest.fixture
def desk(rabbitmq_server: str, volume: Volume) -> Iterator[Desk]:
    broker = RabbitBroker(rabbitmq_server, make_signer(volume))
    yield Desk(broker, volume)
    broker.close(timeout=3.0)


@contextmanager
def running(folder: Path, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a process of its own, its log in `folder`."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", START, *arguments], env={**os.environ, **environ}, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)


@pytest.fixture
def started(rabbitmq_server: str, volume: Volume, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["--volume", volume.root, "--name", tmp_path.name, "--state-dir", str(tmp_path / "state")]
    with running(tmp_path, *arguments, "--queue", "default:2", ECHELON_BROKER=rabbitmq_server) as process:
        yield process


@pytest.mark.server
def test_a_worker_waits_for_its_volume_and_says_so_and_the_config_file_tells_it_the_rest(
    desk: Desk, rabbitmq_server: str, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(rabbitmq_server)
    config = tmp_path / "echelon.toml"
    config.write_text(
        'volume = "mounted"\nbroker_file = "url"\nheartbeat = "500ms"\nlisten = "127.0.0.1:0"\n'
        f'[worker]\nname = "{tmp_path.name}"\nstate_dir = "state"\nqueue = ["rare:3", "default:1"]\n'
    )
    with running(tmp_path, ECHELON_CONFIG=str(config)) as process:
        waiting = f"takes no tasks until its volume is there: {tmp_path}/mounted is not an Echelon volume"
        until(lambda: waiting in (tmp_path / "log").read_text(), "it says what it waits for")
        assert process.poll() is None
        assert "WARNING" not in (tmp_path / "log").read_text()
        shutil.copytree(desk.volume.root, tmp_path / "mounted")
        report = desk.hear_until(tmp_path.name, lambda report: report.room)
        assert report.room == {"rare": 3, "default": 1}


@pytest.mark.parametrize(("expected", "level"), [(60.0, logging.INFO), (0.0, logging.WARNING)])
def test_to_wait_for_the_volume_is_something_to_warn_of_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, expected: float, level: int
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("echelon.worker.command.VOLUME_EXPECTED", expected)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    signals.put(signal.SIGTERM)

    assert _await_volume(tmp_path / "none", signals) is None

    assert [(one.levelno, "until its volume is there" in one.message) for one in caplog.records] == [(level, True)]


@pytest.mark.server
def test_a_worker_that_waits_for_its_volume_ends_when_it_is_asked_to(rabbitmq_server: str, tmp_path: Path) -> None:
    with running(tmp_path, "--volume", str(tmp_path / "none"), "--broker", rabbitmq_server) as process:
        until(lambda: "until its volume is there" in (tmp_path / "log").read_text(), "it waits")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def scrape(address: str) -> dict[str, float]:
    """Return what a worker serves to Prometheus, by the names and labels of the samples."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {" ".join([one.name, *one.labels.values()]): one.value for family in families for one in family.samples}


@pytest.mark.server
def test_a_worker_process_runs_what_it_is_granted_shows_it_to_prometheus_and_leaves_politely(
    desk: Desk, rabbitmq_server: str, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    more = ("--name", tmp_path.name, "--state-dir", str(tmp_path / "state"), "--queue", "default:2")
    with running(
        tmp_path, "--volume", str(desk.volume.root), *more, "--metrics", address, ECHELON_BROKER=rabbitmq_server
    ) as process:
        report = desk.hear_until(tmp_path.name, lambda report: report.room)
        assert report.room == {"default": 2}
        desk.grant(report, "exit 3")
        ended = desk.hear_until(report.worker, lambda report: report.finished)
        assert [(end.outcome, end.exit_code) for end in ended.finished] == [(Outcome.FAILED, 3)]

        found = scrape(address)
        assert found.pop("echelon_worker_disk_free_bytes") > 0
        assert {name: value for name, value in found.items() if "_created" not in name} == {
            "echelon_worker_attempts_total failed": 1, "echelon_worker_running": 0, "echelon_worker_waiting": 0,
            "echelon_worker_slots": 2, "echelon_worker_broker_up": 1,
        }  # fmt: skip
        process.send_signal(signal.SIGTERM)

        desk.hear_until(report.worker, lambda report: report.goodbye)
        assert process.wait(PATIENCE) == 0


@pytest.mark.server
def test_a_second_signal_interrupts_what_runs(desk: Desk, started: subprocess.Popen[bytes], tmp_path: Path) -> None:
    report = desk.hear_until(tmp_path.name, lambda report: report.room)
    desk.grant(report, "sleep 600")
    desk.hear_until(report.worker, lambda report: report.running)

    started.send_signal(signal.SIGTERM)
    desk.hear_until(report.worker, lambda report: report.card and report.card.draining)
    started.send_signal(signal.SIGINT)

    ended = desk.hear_until(report.worker, lambda report: report.finished)
    assert [end.outcome for end in ended.finished] == [Outcome.INTERRUPTED]
    assert started.wait(PATIENCE) == 0
