"""`echelon worker`: a worker as a process of its own, on any machine that has the volume and can reach the broker."""

from __future__ import annotations

import logging
import os
import platform
import queue
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
import platformdirs

from shared.clock import SystemClock
from shared.errors import Conflict, InvalidInput
from shared.messages import ANY_QUEUE
from worker.settings import WorkerSettings, default_slots

if TYPE_CHECKING:
    from shared.volume import Volume
    from worker.serve import Worker

#: Seconds between two looks whether the worker has ended by itself.
LOOK_AGAIN = 0.5
#: Seconds that the broker gets to take the last messages.
FLUSH = 5.0


class QueueSlots(click.ParamType[tuple[str, int]]):
    """NAME:SLOTS, or a bare number of slots for tasks of every queue."""

    name = "NAME:SLOTS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return the queue and its slots."""
        if isinstance(value, tuple):
            return value
        name, _, slots = str(value).rpartition(":")
        if not slots.isascii() or not slots.isdigit() or not 1 <= int(slots) <= 10_000:
            self.fail(f"{value!r} is not NAME:SLOTS, such as default:4 (slots from 1 to 10000)", param, ctx)
        return name or ANY_QUEUE, int(slots)


@click.command()
@click.option(
    "--volume",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ECHELON_VOLUME",
    required=True,
    help="Folder of workspaces, logs and artefacts: the one that the controllers use.",
)
@click.option("--broker", envvar="ECHELON_BROKER", help="URL of RabbitMQ: amqp://user:password@host:5672/")
@click.option(
    "--broker-file",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    envvar="ECHELON_BROKER_FILE",
    help="File that holds the broker's URL, so that its password shows nowhere.",
)
@click.option(
    "--queue", "queues", type=QueueSlots(), multiple=True, help="Queue and slots; may be given several times."
)
@click.option("--name", envvar="ECHELON_NAME", help="Name of this worker, unique on this host.  [default: host name]")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ECHELON_STATE_DIR",
    help="Local folder in which this worker remembers its lives.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    envvar="ECHELON_DRAIN_TIMEOUT",
    help="Seconds that running tasks may go on at SIGTERM.",
)
@click.option(
    "--heartbeat",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    envvar="ECHELON_HEARTBEAT",
    help="Seconds between two signs of life; no more than a third of the controllers' lease.",
)
def worker(
    volume: Path,
    broker: str | None,
    broker_file: Path | None,
    queues: tuple[tuple[str, int], ...],
    name: str | None,
    state_dir: Path | None,
    drain_timeout: float,
    heartbeat: float,
) -> None:
    """Run tasks that controllers hand out.

    At SIGTERM or Ctrl-C it takes no more and lets running tasks end; a second one ends them, and they run elsewhere.
    """
    # Here, because `echelon --help` loads this module too.
    from shared.volume import Volume

    if broker_file is not None:
        broker = broker_file.read_text(encoding="utf-8").strip()
    if not broker:
        raise click.UsageError("a broker is needed: --broker URL, ECHELON_BROKER or ECHELON_BROKER_FILE")
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    # pika tells each step of a connection; what matters of it is told by our own adapter.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    settings = WorkerSettings(
        state_dir=state_dir or platformdirs.user_state_path("echelon"),
        name=name or platform.node(),
        slots=dict(queues) or default_slots(),
        drain_timeout=drain_timeout,
        heartbeat=heartbeat,
        sole_parent=True,
    )
    try:
        serve(settings, volume=Volume.open(volume), broker_url=broker)
    except (InvalidInput, Conflict) as error:
        raise click.UsageError(str(error)) from error


def serve(settings: WorkerSettings, *, volume: Volume, broker_url: str) -> None:
    """Run a worker until it has drained."""
    from shared.broker.rabbitmq import RabbitBroker
    from worker.serve import build_worker

    broker = RabbitBroker(broker_url)
    try:
        built = build_worker(settings, broker=broker, volume=volume, clock=SystemClock(), environ=dict(os.environ))
        _until_drained(built)
    finally:
        broker.close(timeout=FLUSH)


def _until_drained(built: Worker) -> None:
    """Let each signal drain once. The handler does no more than note it: it may interrupt anything."""
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        signals.put(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    built.start()
    while not built.join(0.0):
        try:
            signals.get(timeout=LOOK_AGAIN)
        except queue.Empty:
            continue
        built.drain()
