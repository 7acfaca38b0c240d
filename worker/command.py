"""`echelon worker`: a worker in its own process, on any machine with the volume and access to the broker."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from echelon.shared.clock import SystemClock
from echelon.shared.errors import Conflict, InvalidInput, VolumeUnavailable
from echelon.shared.flags import with_flags
from echelon.shared.logs import set_up_logging
from echelon.shared.settings import InvalidSetting, forget_settings, settings_of
from echelon.worker.settings import WorkerOptions, WorkerSettings, resolve_options

if TYPE_CHECKING:
    from echelon.shared.address import Address
    from echelon.shared.signing import Signer
    from echelon.shared.volume import Volume
    from echelon.worker.serve import WorkerService

log = logging.getLogger(__name__)

#: Seconds between two checks whether the worker has ended by itself.
CHECK_AGAIN = 0.5
#: Seconds in which a volume may be mounted, and made by the first controller: to wait for it is nothing to warn of.
VOLUME_EXPECTED = 30.0
#: Seconds that the broker gets to confirm the last messages.
FLUSH = 5.0
#: Seconds after which a thread gives way to another one. When this process goes on after a pause all threads have work,
#: and the agent's has to end a process that starts too late before that does anything: Python's 5 ms are too long.
GIVE_WAY = 0.0005


def _resolve(given: dict[str, Any], config_file: Path | None) -> WorkerOptions:
    try:
        resolved = resolve_options(given, os.environ, file=config_file)
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from error
    forget_settings(WorkerOptions, given)
    return resolved


@click.command()
@with_flags(settings_of(WorkerOptions), _resolve)
def worker(resolved: WorkerOptions) -> None:
    """Run tasks that controllers grant.

    At SIGTERM or Ctrl-C it takes no more tasks and lets the running ones end; a second signal ends them, and they run
    elsewhere.
    """
    if resolved.volume is None:
        raise click.UsageError("a volume is needed: --volume PATH or ECHELON_VOLUME")
    if not resolved.broker:
        raise click.UsageError("a broker is needed: --broker URL, ECHELON_BROKER or ECHELON_BROKER_FILE")
    set_up_logging(resolved.log_level, resolved.log_format)
    settings = WorkerSettings(
        state_dir=resolved.state_dir,
        name=resolved.name,
        slots=dict(resolved.queue),
        drain_timeout=resolved.drain_timeout,
        heartbeat=resolved.heartbeat,
        log_cap=resolved.max_output,
        queue_type=resolved.queue_type,
        sole_parent=True,
        task_user=resolved.task_user,
    )
    try:
        serve(settings, volume=resolved.volume, broker=resolved.broker, metrics=resolved.metrics)
    except (InvalidInput, Conflict) as error:
        raise click.UsageError(str(error)) from error


def serve(settings: WorkerSettings, *, volume: Path, broker: str, metrics: Address | None = None) -> None:
    """Run a worker until it has drained."""
    # Imported here, because `echelon --help` loads this module too.
    from echelon.shared.broker.rabbitmq import RabbitBroker, RabbitOptions
    from echelon.worker.metrics import serve_metrics
    from echelon.worker.serve import build_worker

    sys.setswitchinterval(GIVE_WAY)
    signals = _catch_signals()
    found = _await_volume(volume, signals)
    if found is None:
        return
    mounted, signer = found
    connection = RabbitBroker(broker, signer, RabbitOptions(queue_type=settings.queue_type))
    try:
        environ = dict(os.environ)
        built = build_worker(settings, broker=connection, volume=mounted, clock=SystemClock(), environ=environ)
        if metrics is not None:
            serve_metrics(metrics, built, is_connected=lambda: connection.connected, folder=mounted.root)
        slots = ", ".join(f"{queue}:{count}" for queue, count in settings.slots.items())
        log.info("worker %s of %s begins, %s, with slots %s", settings.name, settings.host, built.id, slots)
        _run_until_drained(built, signals)
    finally:
        connection.close(timeout=FLUSH)


def _catch_signals() -> queue.SimpleQueue[int]:
    """Collect the signals that ask this process to end. The handler does no more, because it may interrupt anything."""
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note_signal(number: int, frame: FrameType | None) -> None:
        signals.put(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note_signal)
    return signals


def _await_volume(path: Path, signals: queue.SimpleQueue[int]) -> tuple[Volume, Signer] | None:
    """Wait for the volume, which may not be mounted yet, and return it with its key; None if a signal came first."""
    from echelon.shared.signing import make_signer
    from echelon.shared.volume import Volume

    began, logged = time.monotonic(), (0, "")
    while True:
        try:
            volume = Volume.open(path)
            return volume, make_signer(volume)
        except VolumeUnavailable as error:
            level = logging.INFO if time.monotonic() < began + VOLUME_EXPECTED else logging.WARNING
            if (level, str(error)) != logged:
                logged = level, str(error)
                log.log(level, "this worker takes no tasks until its volume is there: %s", error)
        with contextlib.suppress(queue.Empty):
            signals.get(timeout=CHECK_AGAIN)
            return None


def _run_until_drained(built: WorkerService, signals: queue.SimpleQueue[int]) -> None:
    """Run the worker until it has drained; each signal calls `drain` once."""
    built.start()
    while not built.join(0.0):
        with contextlib.suppress(queue.Empty):
            signals.get(timeout=CHECK_AGAIN)
            built.drain()
