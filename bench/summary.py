"""Medians, and ratios: first the ratio within each round, then the median of the ratios."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contestant import FAN_OUT
from bench.contestants import LIMIT
from bench.records import Record, Run


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and span of a figure over all rounds."""

    median: float
    least: float
    most: float
    count: int


def summarize(records: Sequence[Record], figure: str) -> Summary | None:
    """Return the summary of a figure in these records; None if none of them has it."""
    values = [record.figures[figure] for record in records if figure in record.figures]
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values), len(values))


def group_by_round(records: Sequence[Record], figure: str) -> dict[int, float]:
    """Return a figure's median in each round."""
    values: dict[int, list[float]] = defaultdict(list)
    for record in records:
        if figure in record.figures:
            values[record.round].append(record.figures[figure])
    return {round_: statistics.median(found) for round_, found in values.items()}


def compute_ratio(above: Sequence[Record], below: Sequence[Record], figure: str) -> float | None:
    """Return the median of the ratios within rounds, because the machine's speed varies between rounds."""
    first, second = group_by_round(above, figure), group_by_round(below, figure)
    ratios = [first[round_] / second[round_] for round_ in first.keys() & second.keys()]
    return statistics.median(ratios) if ratios else None


def compare_to_limit(run: Run, contestant: str, size: int) -> float | None:
    """Return a contestant's rate as a share of the limit's for a size of fan-out."""
    return compute_ratio(run.find_records(FAN_OUT, contestant, size), run.find_records(FAN_OUT, LIMIT, size), "rate")
