"""Bars, goals and the results of a run: ratios and medians, because the machine's speed varies between runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, VERBS
from bench.contestants import LIMIT
from bench.echelon import POSTGRESQL, SHAPES, SQLITE, STANDALONE, Shape
from bench.records import Run
from bench.summary import compare_to_limit, compute_ratio, summarize
from bench.tables import Table, find_title
from bench.verbs import CALLS

_USUAL, _LARGE, _HUGE = 10_000, 100_000, 1_000_000
_FEW = 1_000


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of one contestant with its bar and its goal."""

    what: str
    contestant: str
    measured: float
    bar: float
    #: Better than the bar; None: there is only a bar.
    target: float | None
    unit: str
    #: True if large figures are good.
    large: bool = True
    digits: int = 2

    @property
    def verdict(self) -> str:
        """Return which of them is reached, or by how much the bar is missed."""
        reaches: Callable[[float, float], bool] = operator.ge if self.large else operator.le
        if self.target is not None and reaches(self.measured, self.target):
            return "goal reached"
        if reaches(self.measured, self.bar):
            return "bar reached"
        return f"missed by {self._format_value(abs(self.measured - self.bar))}"

    def cells(self) -> list[str]:
        """Return the row of a table."""
        sign = ">=" if self.large else "<="
        asked = [
            f"{sign} {self._format_value(limit)}" if limit is not None else "" for limit in (self.bar, self.target)
        ]
        return [self.what, find_title(self.contestant), *asked, self._format_value(self.measured), self.verdict]

    def _format_value(self, value: float) -> str:
        return f"{value:,.{self.digits}f} {self.unit}".rstrip()


def list_goals(run: Run) -> list[Goal]:
    """Return every goal that the run has measured."""
    found: list[Goal] = []
    for part in (
        _judge_fan_out,
        _judge_large_fan_out,
        _judge_chain,
        _judge_latency,
        _judge_growth,
        _judge_memory,
        _judge_api,
        _judge_verbs,
    ):
        found.extend(part(run))
    return found


def make_table(run: Run) -> Table:
    """Return the goals as a table."""
    rows = [goal.cells() for goal in list_goals(run)]
    return Table("goals", "Bars and goals", ["", "", "bar", "goal", "measured", "result"], rows)


def _judge_fan_out(run: Run) -> Iterator[Goal]:
    what = f"fan-out {_USUAL:,}"
    for shape in SHAPES:
        bar, target = (0.50, 0.70) if shape.distributed else (0.60, 0.80)
        part = compare_to_limit(run, shape.name, _USUAL)
        if part is not None:
            yield Goal(f"{what}, share of the limit", shape.name, part, bar, target, "L")
        others = {"dramatiq": 1.5, "celery": 2.4} if shape.distributed else {"celery": 3.0}
        for other, times in others.items():
            found = compute_ratio(
                run.find_records(FAN_OUT, shape.name, _USUAL), run.find_records(FAN_OUT, other, _USUAL), "rate"
            )
            if found is not None:
                yield Goal(f"{what}, ratio to {other.capitalize()}", shape.name, found, times, None, "x")


def _judge_large_fan_out(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        found = compute_ratio(
            run.find_records(FAN_OUT, shape.name, _LARGE), run.find_records(FAN_OUT, shape.name, _USUAL), "rate"
        )
        if found is not None:
            what = f"fan-out {_LARGE:,}, ratio to the rate of {_USUAL:,}"
            yield Goal(what, shape.name, found, 0.95, 1.0, "")


def _judge_chain(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        found = summarize(run.find_records(CHAIN, shape.name, 100), "ms")
        if found is not None:
            bar, target = (4.0, 2.0) if shape.distributed else (1.5, 1.0)
            yield Goal("chain, per stage", shape.name, found.median, bar, target, "ms", large=False)


def _judge_latency(run: Run) -> Iterator[Goal]:
    own = summarize(run.find_records(LATENCY, LIMIT), "median")
    for shape in SHAPES if own else ():
        found = summarize(run.find_records(LATENCY, shape.name), "median")
        if found is not None and own is not None:
            bar, target = (5.0, 2.0) if shape.distributed else (3.0, 1.0)
            what = f"latency above the process's own {own.median:.2f} ms, median"
            yield Goal(what, shape.name, found.median - own.median, bar, target, "ms", large=False)


def _judge_growth(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        found = compute_ratio(
            run.find_records(GROWTH, shape.name, _HUGE), run.find_records(GROWTH, shape.name, 0), "rate"
        )
        if found is not None:
            what = f"fan-out {_FEW:,}, rate with {_HUGE:,} finished tasks to rate with none"
            yield Goal(what, shape.name, found, 0.95, 1.0, "")


def _judge_memory(run: Run) -> Iterator[Goal]:
    yield from _judge_peak(run, MEMORY, SQLITE, "controller", _HUGE)
    yield from _judge_peak(run, MEMORY, POSTGRESQL, "controller", _HUGE)
    yield from _judge_peak(run, FAN_OUT, STANDALONE, "engine", _LARGE)


def _judge_peak(run: Run, bench: str, shape: Shape, part: str, size: int) -> Iterator[Goal]:
    small = summarize(run.find_records(bench, shape.name, _FEW), f"rss.{part}")
    large = summarize(run.find_records(bench, shape.name, size), f"rss.{part}")
    if small is not None and large is not None:
        what = f"peak RSS of the {part}, growth from {_FEW:,} to {size:,} tasks"
        yield Goal(what, shape.name, large.most - small.most, 64.0, 16.0, "MiB", large=False, digits=0)


def _judge_api(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        for clients in sorted({record.size for record in run.find_records(API, shape.name)}):
            found = summarize(run.find_records(API, shape.name, clients), "get_p99")
            if found is not None:
                what = f"`GET /jobs/{{id}}` p99, {clients} client{'s' if clients > 1 else ''}"
                yield Goal(what, shape.name, found.median, 50.0, 20.0, "ms", large=False, digits=1)


def _judge_verbs(run: Run) -> Iterator[Goal]:
    for shape in SHAPES:
        records = run.find_records(VERBS, shape.name, _LARGE)
        slowest = max(((found.median, call) for call in CALLS if (found := summarize(records, call))), default=None)
        if slowest is not None:
            seconds, call = slowest
            what = f"slowest of pause, resume, cancel, retry and skip, {_LARGE:,} tasks: {call.replace('_', ' ')}"
            yield Goal(what, shape.name, seconds, 2.0, 1.0, "s", large=False)
