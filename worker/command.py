"""`echelon worker`: a worker as a process of its own, on any machine that has the volume and can reach the broker."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
import platformdirs
from click.core import ParameterSource

from echelon.shared.clock import SystemClock
from echelon.shared.config import WORKER_TABLE, InvalidSetting, config_file, seconds, secret_in, size
from echelon.shared.errors import Conflict, InvalidInput, VolumeUnavailable
from echelon.shared.messages import ANY_QUEUE
from echelon.worker.settings import WorkerSettings, default_slots

if TYPE_CHECKING:
    from echelon.shared.volume import Volume
    from echelon.worker.serve import WorkerService

log = logging.getLogger(__name__)

#: Where a value may come from, strongest first.
_STRENGTHS = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)

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


class Reads(click.ParamType[float]):
    """A value that is written as in the config file, such as 90s or 16MiB."""

    def __init__(self, name: str, read: Callable[[str], float], *, least: float) -> None:
        self.name = name
        self._read = read
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            found = self._read(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if found < self._least:
            self.fail(f"{value!r}: write at least {self._least:g}", param, ctx)
        return found


#: What a worker takes from the config file: names of settings -> names of its own parameters.
_FROM_FILE = {name: name for name in ("volume", "broker", "broker_file", "heartbeat", "drain_timeout", "max_output")}
_FROM_FILE |= {"log_level": "log_level", "queue_type": "queue_type"}
#: ... and what stands there under [worker] alone.
_FROM_TABLE = _FROM_FILE | {"name": "name", "queue": "queues", "state_dir": "state_dir"}


def _read_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    """Let the config file give what neither a flag nor a variable gives."""
    try:
        path, written = config_file(value, os.environ)
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from error
    own = (written or {}).pop(WORKER_TABLE, {})
    if not isinstance(own, dict) or not own.keys() <= _FROM_TABLE.keys():
        known = ", ".join(sorted(_FROM_TABLE))
        raise click.UsageError(f"{path}: [{WORKER_TABLE}] is a table of {known}")
    # What else stands there is the controllers' business.
    found = {_FROM_FILE[name]: one for name, one in (written or {}).items() if name in _FROM_FILE}
    if {"broker", "broker_file"} & own.keys():
        found = {name: one for name, one in found.items() if name not in ("broker", "broker_file")}
    found |= {_FROM_TABLE[name]: one for name, one in own.items()}
    for name in {"volume", "broker_file", "state_dir"} & found.keys():
        found[name] = str(path.parent / str(found[name]))
    ctx.default_map = found


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
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ECHELON_BROKER_FILE",
    help="File that holds the broker's URL, so that its password shows nowhere.",
)
@click.option(
    "--queue-type",
    type=click.Choice(["classic", "quorum"]),
    default="classic",
    show_default=True,
    envvar="ECHELON_QUEUE_TYPE",
    help="Kind of the broker's queues: the controllers' own, or they hear nothing of each other.",
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
    type=Reads("TIME", seconds, least=0.0),
    default=60.0,
    show_default=True,
    envvar="ECHELON_DRAIN_TIMEOUT",
    help="Seconds that running tasks may go on at SIGTERM.",
)
@click.option(
    "--heartbeat",
    type=Reads("TIME", seconds, least=0.1),
    default=5.0,
    show_default=True,
    envvar="ECHELON_HEARTBEAT",
    help="Longest time between two signs of life; a third of the controllers' lease where that is less.",
)
@click.option(
    "--max-output",
    type=Reads("BYTES", size, least=1024),
    default="16MiB",
    show_default=True,
    envvar="ECHELON_MAX_OUTPUT",
    help="Bytes kept of a task's stdout, and of its stderr.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    envvar="ECHELON_LOG_LEVEL",
    help="Least weight of what is logged.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_read_file,
    help="Config file (TOML): the controllers' own, and what stands there under [worker].  [ECHELON_CONFIG]",
)
@click.pass_context
def worker(
    ctx: click.Context,
    /,
    volume: Path,
    queues: tuple[tuple[str, int], ...],
    name: str | None,
    state_dir: Path | None,
    log_level: str,
    **more: Any,
) -> None:
    """Run tasks that controllers hand out.

    At SIGTERM or Ctrl-C it takes no more and lets running tasks end; a second one ends them, and they run elsewhere.
    """
    broker = broker_url(ctx)
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    # pika tells each step of a connection; what matters of it is told by our own adapter.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    settings = WorkerSettings(
        state_dir=state_dir or platformdirs.user_state_path("echelon"),
        name=name or platform.node(),
        slots=dict(queues) or default_slots(),
        drain_timeout=more["drain_timeout"],
        heartbeat=more["heartbeat"],
        log_cap=int(more["max_output"]),
        queue_type=more["queue_type"],
        sole_parent=True,
    )
    try:
        serve(settings, volume=volume, broker=broker)
    except (InvalidInput, Conflict) as error:
        raise click.UsageError(str(error)) from error


def broker_url(ctx: click.Context) -> str:
    """Return the broker's URL: a flag stands over a variable, that over the config file, whichever way it is given."""

    def strength(name: str) -> int:
        source = ctx.get_parameter_source(name)
        return _STRENGTHS.index(source) if source in _STRENGTHS else len(_STRENGTHS)

    url, file = ctx.params["broker"], ctx.params["broker_file"]
    if file is not None and (not url or strength("broker_file") < strength("broker")):
        try:
            url = secret_in(file, "the broker's file")
        except InvalidSetting as error:
            raise click.UsageError(str(error)) from error
    if not url:
        raise click.UsageError("a broker is needed: --broker URL, ECHELON_BROKER or ECHELON_BROKER_FILE")
    return str(url)


def serve(settings: WorkerSettings, *, volume: Path, broker: str) -> None:
    """Run a worker until it has drained."""
    # Here, because `echelon --help` loads this module too.
    from echelon.shared.broker.rabbitmq import RabbitBroker, RabbitOptions
    from echelon.worker.serve import build_worker

    signals = _signals()
    connection = RabbitBroker(broker, RabbitOptions(queue_type=settings.queue_type))
    try:
        found = _await_volume(volume, signals)
        if found is not None:
            environ = dict(os.environ)
            built = build_worker(settings, broker=connection, volume=found, clock=SystemClock(), environ=environ)
            _until_drained(built, signals)
    finally:
        connection.close(timeout=FLUSH)


def _signals() -> queue.SimpleQueue[int]:
    """Note the signals that ask this process to end. The handler does no more than that: it may interrupt anything."""
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        signals.put(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return signals


def _await_volume(path: Path, signals: queue.SimpleQueue[int]) -> Volume | None:
    """Return the volume as soon as it is there: it may not be mounted yet. None: this process is to end."""
    from echelon.shared.volume import Volume

    said = ""
    while True:
        try:
            return Volume.open(path)
        except VolumeUnavailable as error:
            if str(error) != said:
                said = str(error)
                log.warning("this worker takes no tasks until its volume is there: %s", said)
        with contextlib.suppress(queue.Empty):
            signals.get(timeout=LOOK_AGAIN)
            return None


def _until_drained(built: WorkerService, signals: queue.SimpleQueue[int]) -> None:
    """Let each signal drain once."""
    built.start()
    while not built.join(0.0):
        with contextlib.suppress(queue.Empty):
            signals.get(timeout=LOOK_AGAIN)
            built.drain()
