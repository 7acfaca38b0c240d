"""The benches of all contestants: fan-out, chain and latency, in one run of the contestant."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bench import accounting
from bench.contestant import CHAIN, FAN_OUT, LATENCY, Contestant, RunningContestant
from bench.records import Record
from bench.session import Session

#: Tasks that run before anything is measured.
_WARM_UP = 200
#: Repeats of a short measurement in a round; fan-outs up to `_SHORT` are short.
_REPEATS = 3
_SHORT = 1_000
#: Submits of the latency bench, and the pause before each in seconds.
SUBMITS = 50
_REST = 0.02


def measure_fan_out(up: RunningContestant, count: int) -> dict[str, float]:
    """Run a fan-out and return its rate, the CPU of each part in microseconds a task, and the peaks in MiB."""
    tasks = count + 2
    accounting.reset_peaks(up.parts)
    before = accounting.read_cpu(up.parts)
    seconds = up.run_fan_out(count)
    after = accounting.read_cpu(up.parts)
    figures = {"seconds": seconds, "rate": tasks / seconds}
    figures |= {f"cpu.{part}": (used - before.get(part, 0.0)) / tasks * 1e6 for part, used in after.items()}
    return figures | read_memory(up)


def read_memory(up: RunningContestant) -> dict[str, float]:
    """Return the peak memory and the present anonymous memory of each part in MiB."""
    figures = {f"rss.{part}": peak for part, peak in accounting.read_peaks(up.parts).items()}
    return figures | {f"anon.{part}": own for part, own in accounting.read_own_memory(up.parts).items()}


def measure_chain(up: RunningContestant, stages: int) -> dict[str, float]:
    """Run a chain and return the milliseconds per stage."""
    return {"ms": up.run_chain(stages) / stages * 1e3}


def measure_latency(up: RunningContestant, submits: int) -> dict[str, float]:
    """Submit single tasks to an idle contestant; return median and p95 in milliseconds."""
    seen = []
    for _ in range(submits):
        time.sleep(_REST)
        seen.append(up.measure_latency() * 1e3)
    return {"median": statistics.median(seen), "p95": statistics.quantiles(seen, n=20)[-1]}


def measure_contestant(
    session: Session,
    contestant: Contestant,
    round_: int,
    *,
    fan_outs: Sequence[int],
    chains: Sequence[int] = (),
    submits: int = 0,
) -> None:
    """Start a contestant, run each bench once (short ones several times) and stop it."""

    def keep_figures(bench: str, size: int, figures: dict[str, float]) -> None:
        session.keep_record(Record(bench, contestant.name, size, round_, figures))

    folder = session.resources.make_folder(contestant.name)
    with contestant.open(session.resources, folder) as up:
        up.run_fan_out(_WARM_UP)
        for count in fan_outs:
            for _ in range(_REPEATS if count <= _SHORT else 1):
                keep_figures(FAN_OUT, count, measure_fan_out(up, count))
        for stages in chains if CHAIN in contestant.benches else ():
            for _ in range(_REPEATS):
                keep_figures(CHAIN, stages, measure_chain(up, stages))
        if submits and LATENCY in contestant.benches:
            keep_figures(LATENCY, 0, measure_latency(up, submits))
