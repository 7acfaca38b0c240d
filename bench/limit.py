"""The limit of the machine, and the simplest tool that runs commands two at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import bare
from bench.resources import Resources
from tests.system.cluster import ROOT

#: As many as the workers of every engine.
_PROCESSES = 2


class Limit:
    """Two processes that only start tasks and wait for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes = []
        for number in range(_PROCESSES):
            place = folder / str(number)
            place.mkdir()
            command = [sys.executable, "-m", "bench.bare", str(place)]
            self._processes.append(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )

    def run_fan_out(self, count: int) -> float:
        """Start `count` + 2 processes and return the seconds."""
        begun = time.perf_counter()
        shares = [(count + 2) // _PROCESSES] * (_PROCESSES - 1)
        for process, share in zip(self._processes, [*shares, count + 2 - sum(shares)], strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{share}\n")
            process.stdin.flush()
        for process in self._processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("a process of the limit has ended")
        return time.perf_counter() - begun

    def run_chain(self, stages: int) -> float:
        """Run processes one after the other and return the seconds."""
        begun = time.perf_counter()
        for number in range(stages):
            bare.run_process(bare.TRUE, f"{self._folder}/chain-{number}")
        return time.perf_counter() - begun

    def measure_latency(self) -> float:
        """Start one process and return the seconds until it read the clock."""
        return bare.measure_own_latency(f"{self._folder}/clock")

    @property
    def parts(self) -> Mapping[str, int]:
        """Return the processes."""
        return {f"worker {number}": process.pid for number, process in enumerate(self._processes, 1)}

    def stop(self) -> None:
        """Wait for the end of both."""
        for process in self._processes:
            process.communicate()


class Xargs(Limit):
    """`xargs -P2`: no output is captured, no state is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes = []

    def run_fan_out(self, count: int) -> float:
        """Start `count` + 2 processes and return the seconds."""
        begun = time.perf_counter()
        numbers = "\n".join(map(str, range(count + 2)))
        subprocess.run(["xargs", f"-P{_PROCESSES}", "-n1", "/bin/true"], input=numbers, text=True, check=True)
        return time.perf_counter() - begun


@contextmanager
def run_limit(resources: Resources, folder: Path) -> Iterator[Limit]:
    """Run the limit."""
    running = Limit(folder)
    try:
        # The processes answer when they have started.
        running.run_fan_out(0)
        yield running
    finally:
        running.stop()


@contextmanager
def run_xargs(resources: Resources, folder: Path) -> Iterator[Xargs]:
    """Return at once: xargs needs no running process."""
    yield Xargs(folder)
