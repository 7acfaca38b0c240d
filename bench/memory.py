"""The memory bench for more tasks than a fan-out of real processes allows: up to a million counted tasks.

One real worker runs the first, the last and the spawn task; all others go to `bench.counting`. The peaks of fan-outs of
real tasks are in the records of the fan-out.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import accounting, speed
from bench.contestant import MEMORY
from bench.echelon import Shape, run_echelon
from bench.records import Record
from bench.session import Session
from tests.system.cluster import ROOT
from tests.system.process import until


def measure_memory(session: Session, shape: Shape, round_: int, size: int) -> None:
    """Run a fan-out of counted tasks and record the peak of every process."""
    folder = session.resources.make_folder(f"memory-{shape.name}")
    served = replace(shape, workers=1, queue="default:2")
    with (
        run_echelon(session.resources, folder, served) as echelon,
        _run_counter(session.resources.rabbitmq.url, echelon.volume),
    ):
        until(lambda: echelon.rest.count_workers() == 2, "the counting worker is up")
        echelon.write_items(size)
        accounting.reset_peaks(echelon.parts)
        seconds = echelon.run_fan_out(size, "counted")
        figures = {"seconds": seconds, "rate": (size + 2) / seconds}
        figures |= speed.read_memory(echelon)
    session.keep_record(Record(MEMORY, shape.name, size, round_, figures))


@contextmanager
def _run_counter(broker: str, volume: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.counting", broker, str(volume)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
