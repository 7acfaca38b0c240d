"""The memory bench beyond what a fan-out of real processes can show: tasks that only count, up to a million of them.

One real worker runs the first, the last and the spawn task; all others go to `bench.counting`. The peaks of fan-outs of
real tasks stand in the records of the fan-out.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench import accounting, work
from bench.contestant import MEMORY
from bench.echelon import Shape, running
from bench.records import Record
from bench.session import Session
from tests.system.cluster import ROOT
from tests.system.process import until


def visit(session: Session, shape: Shape, round_: int, size: int) -> None:
    """Run a fan-out of tasks that count and keep the peak of every process."""
    folder = session.ground.fresh_folder(f"memory-{shape.name}")
    served = replace(shape, workers=1, queue="default:2")
    with (
        running(session.ground, folder, served) as echelon,
        _counting(session.ground.rabbitmq.url),
    ):
        until(lambda: echelon.rest.workers_up() == 2, "the counting worker is up")
        echelon.items(size)
        accounting.forget_peaks(echelon.parts)
        seconds = echelon.fan_out(size, "counted")
        figures = {"seconds": seconds, "rate": (size + 2) / seconds}
        figures |= work.memory(echelon)
    session.keep(Record(MEMORY, shape.name, size, round_, figures))


@contextmanager
def _counting(broker: str) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.counting", broker]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
