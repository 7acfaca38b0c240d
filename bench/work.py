"""The benches that every contestant takes part in: fan-out, chain and latency, all in one life of the contestant."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bench import accounting
from bench.contestant import CHAIN, FAN_OUT, LATENCY, Contestant, Up
from bench.records import Record
from bench.session import Session

#: Tasks that run before anything is measured.
_WARM_UP = 200
#: A measurement that takes a blink of an eye is made so often in a round.
_REPEATS = 3
_SHORT = 1_000
#: Submits of the latency bench, and the seconds of rest before each.
SUBMITS = 50
_REST = 0.02


def fan_out(up: Up, count: int) -> dict[str, float]:
    """Run a fan-out and return its rate, the CPU of each part in microseconds a task, and the peaks in MiB."""
    tasks = count + 2
    accounting.forget_peaks(up.parts)
    before = accounting.cpu(up.parts)
    seconds = up.fan_out(count)
    after = accounting.cpu(up.parts)
    figures = {"seconds": seconds, "rate": tasks / seconds}
    figures |= {f"cpu.{part}": (used - before.get(part, 0.0)) / tasks * 1e6 for part, used in after.items()}
    return figures | memory(up)


def memory(up: Up) -> dict[str, float]:
    """Return each part's peak memory, and what of it is its own and not a file's at the end, in MiB."""
    figures = {f"rss.{part}": peak for part, peak in accounting.peaks(up.parts).items()}
    return figures | {f"anon.{part}": own for part, own in accounting.own_memory(up.parts).items()}


def chain(up: Up, stages: int) -> dict[str, float]:
    """Run a chain and return its milliseconds a stage."""
    return {"ms": up.chain(stages) / stages * 1e3}


def latency(up: Up, submits: int) -> dict[str, float]:
    """Submit one task after the other to an idle contestant; return median and p95 in milliseconds."""
    seen = []
    for _ in range(submits):
        time.sleep(_REST)
        seen.append(up.latency() * 1e3)
    return {"median": statistics.median(seen), "p95": statistics.quantiles(seen, n=20)[-1]}


def visit(
    session: Session,
    contestant: Contestant,
    round_: int,
    *,
    fan_outs: Sequence[int],
    chains: Sequence[int] = (),
    submits: int = 0,
) -> None:
    """Start a contestant, let it do everything once (the shortest things more often) and end it."""

    def keep(bench: str, size: int, figures: dict[str, float]) -> None:
        session.keep(Record(bench, contestant.name, size, round_, figures))

    folder = session.ground.fresh_folder(contestant.name)
    with contestant.open(session.ground, folder) as up:
        up.fan_out(_WARM_UP)
        for count in fan_outs:
            for _ in range(_REPEATS if count <= _SHORT else 1):
                keep(FAN_OUT, count, fan_out(up, count))
        for stages in chains if CHAIN in contestant.benches else ():
            for _ in range(_REPEATS):
                keep(CHAIN, stages, chain(up, stages))
        if submits and LATENCY in contestant.benches:
            keep(LATENCY, 0, latency(up, submits))
