"""What is to be reached, and what a run has seen of it: ratios and medians, for the machine drifts from run to run."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, VERBS
from bench.echelon import POSTGRESQL, SHAPES, SQLITE, STANDALONE, Shape
from bench.field import LIMIT
from bench.records import Run
from bench.summary import ratio, seen, to_limit
from bench.tables import Table, title
from bench.verbs import CALLS

_USUAL, _LARGE, _HUGE = 10_000, 100_000, 1_000_000
_FEW = 1_000


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of one contestant, beside what is wanted of it."""

    what: str
    contestant: str
    seen: float
    wanted: float
    #: None: nothing is asked for beyond what is wanted.
    beyond: float | None
    unit: str
    #: The figure is to be large; otherwise small.
    large: bool = True
    digits: int = 2

    @property
    def verdict(self) -> str:
        """Return what is reached, or by how much it is missed."""
        reaches: Callable[[float, float], bool] = operator.ge if self.large else operator.le
        if self.beyond is not None and reaches(self.seen, self.beyond):
            return "goal reached"
        if reaches(self.seen, self.wanted):
            return "bar reached"
        return f"missed by {self._told(abs(self.seen - self.wanted))}"

    def cells(self) -> list[str]:
        """Return the row of a table."""
        sign = ">=" if self.large else "<="
        asked = [f"{sign} {self._told(limit)}" if limit is not None else "" for limit in (self.wanted, self.beyond)]
        return [self.what, title(self.contestant), *asked, self._told(self.seen), self.verdict]

    def _told(self, value: float) -> str:
        return f"{value:,.{self.digits}f} {self.unit}".rstrip()


def goals(run: Run) -> list[Goal]:
    """Return every goal of which the run has seen anything."""
    found: list[Goal] = []
    for part in (_fan_out, _larger, _chain, _latency, _growth, _memory, _api, _verbs):
        found.extend(part(run))
    return found


def table(run: Run) -> Table:
    """Return the goals as a table."""
    rows = [goal.cells() for goal in goals(run)]
    return Table("goals", "Bars and goals", ["", "", "bar", "goal", "measured", "result"], rows)


def _fan_out(run: Run) -> Iterator[Goal]:
    what = f"fan-out {_USUAL:,}"
    for shape in SHAPES:
        wanted, beyond = (0.50, 0.70) if shape.distributed else (0.60, 0.80)
        part = to_limit(run, shape.name, _USUAL)
        if part is not None:
            yield Goal(f"{what}, share of the limit", shape.name, part, wanted, beyond, "L")
        others = {"dramatiq": 1.5, "celery": 2.4} if shape.distributed else {"celery": 3.0}
        for other, times in others.items():
            found = ratio(run.of(FAN_OUT, shape.name, _USUAL), run.of(FAN_OUT, other, _USUAL), "rate")
            if found is not None:
                yield Goal(f"{what}, ratio to {other.capitalize()}", shape.name, found, times, None, "x")


def _larger(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        found = ratio(run.of(FAN_OUT, shape.name, _LARGE), run.of(FAN_OUT, shape.name, _USUAL), "rate")
        if found is not None:
            what = f"fan-out {_LARGE:,}, ratio to the rate of {_USUAL:,}"
            yield Goal(what, shape.name, found, 0.95, 1.0, "")


def _chain(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        found = seen(run.of(CHAIN, shape.name, 100), "ms")
        if found is not None:
            wanted, beyond = (4.0, 2.0) if shape.distributed else (1.5, 1.0)
            yield Goal("chain, per stage", shape.name, found.median, wanted, beyond, "ms", large=False)


def _latency(run: Run) -> Iterator[Goal]:
    own = seen(run.of(LATENCY, LIMIT), "median")
    for shape in SHAPES if own else ():
        found = seen(run.of(LATENCY, shape.name), "median")
        if found is not None and own is not None:
            wanted, beyond = (5.0, 2.0) if shape.distributed else (3.0, 1.0)
            what = f"latency above the process's own {own.median:.2f} ms, median"
            yield Goal(what, shape.name, found.median - own.median, wanted, beyond, "ms", large=False)


def _growth(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        found = ratio(run.of(GROWTH, shape.name, _HUGE), run.of(GROWTH, shape.name, 0), "rate")
        if found is not None:
            what = f"fan-out {_FEW:,}, rate with {_HUGE:,} finished tasks to rate with none"
            yield Goal(what, shape.name, found, 0.95, 1.0, "")


def _memory(run: Run) -> Iterator[Goal]:
    yield from _held(run, MEMORY, SQLITE, "controller", _HUGE)
    yield from _held(run, MEMORY, POSTGRESQL, "controller", _HUGE)
    yield from _held(run, FAN_OUT, STANDALONE, "engine", _LARGE)


def _held(run: Run, bench: str, shape: Shape, part: str, size: int) -> Iterator[Goal]:
    small = seen(run.of(bench, shape.name, _FEW), f"rss.{part}")
    large = seen(run.of(bench, shape.name, size), f"rss.{part}")
    if small is not None and large is not None:
        what = f"peak RSS of the {part}, growth from {_FEW:,} to {size:,} tasks"
        yield Goal(what, shape.name, large.most - small.most, 64.0, 16.0, "MiB", large=False, digits=0)


def _api(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        for clients in sorted({record.size for record in run.of(API, shape.name)}):
            found = seen(run.of(API, shape.name, clients), "get_p99")
            if found is not None:
                what = f"`GET /jobs/{{id}}` p99, {clients} client{'s' if clients > 1 else ''}"
                yield Goal(what, shape.name, found.median, 50.0, 20.0, "ms", large=False, digits=1)


def _verbs(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        records = run.of(VERBS, shape.name, _LARGE)
        slowest = max(((found.median, call) for call in CALLS if (found := seen(records, call))), default=None)
        if slowest is not None:
            seconds, call = slowest
            what = f"slowest of pause, resume, cancel, retry and skip, {_LARGE:,} tasks: {call.replace('_', ' ')}"
            yield Goal(what, shape.name, seconds, 2.0, 1.0, "s", large=False)
