"""What the records of a run come to: medians, and ratios that are taken within a round before their median is."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contestant import FAN_OUT
from bench.field import LIMIT
from bench.records import Record, Run


@dataclass(frozen=True, slots=True)
class Seen:
    """Median and span of a figure over all rounds."""

    median: float
    least: float
    most: float
    count: int


def seen(records: Sequence[Record], figure: str) -> Seen | None:
    """Return a figure of these records; None where nobody measured it."""
    values = [record.figures[figure] for record in records if figure in record.figures]
    if not values:
        return None
    return Seen(statistics.median(values), min(values), max(values), len(values))


def by_round(records: Sequence[Record], figure: str) -> dict[int, float]:
    """Return a figure's median of each round."""
    values: dict[int, list[float]] = defaultdict(list)
    for record in records:
        if figure in record.figures:
            values[record.round].append(record.figures[figure])
    return {round_: statistics.median(found) for round_, found in values.items()}


def ratio(above: Sequence[Record], below: Sequence[Record], figure: str) -> float | None:
    """Return the median of a figure's ratio in each round that has both: the machine may drift from round to round."""
    first, second = by_round(above, figure), by_round(below, figure)
    ratios = [first[round_] / second[round_] for round_ in first.keys() & second.keys()]
    return statistics.median(ratios) if ratios else None


def to_limit(run: Run, contestant: str, size: int) -> float | None:
    """Return a contestant's rate as a part of the limit's at a size of fan-out."""
    return ratio(run.of(FAN_OUT, contestant, size), run.of(FAN_OUT, LIMIT, size), "rate")
