"""The tables of a run, as plain cells; how they are drawn is the screen's and the document's business."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, VERBS
from bench.echelon import SHAPES
from bench.field import CONTESTANTS
from bench.records import Record, Run, contestants, sizes
from bench.summary import Seen, seen, to_limit
from bench.verbs import CALLS

_NOTHING = ""
_PARTS = ("tasks", "controller", "engine", "worker", "broker", "database")


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the head and rows; the first cell of a row is words, the others are figures."""

    key: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(run: Run) -> list[Table]:
    """Return the tables of everything that was measured."""
    made = [_fan_out(run), _chain(run), _latency(run), _api(run), _growth(run), _memory(run), _verbs(run), _parts(run)]
    return [table for table in made if table.rows]


def title(contestant: str) -> str:
    """Return a contestant's name for people."""
    return CONTESTANTS[contestant].title if contestant in CONTESTANTS else contestant


def number(value: float | None, digits: int = 0) -> str:
    """Return a figure as text."""
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def spread(found: Seen | None, digits: int = 0) -> str:
    """Return a median with its span."""
    if found is None:
        return _NOTHING
    if found.count == 1:
        return number(found.median, digits)
    return f"{number(found.median, digits)} ({number(found.least, digits)}-{number(found.most, digits)})"


def _fan_out(run: Run) -> Table:
    records = run.of(FAN_OUT)
    found = sizes(records)
    rows = []
    for name in contestants(records):
        row = [title(name)]
        for size in found:
            row += [spread(seen(run.of(FAN_OUT, name, size), "rate")), number(to_limit(run, name, size), 2)]
        rows.append(row)
    head = [""] + [cell for size in found for cell in (f"N = {size:,}: tasks/s", "share of limit")]
    return Table("fan-out", "Fan-out, 1 + N + 1 tasks", head, rows)


def _chain(run: Run) -> Table:
    records = run.of(CHAIN)
    found = sizes(records)
    rows = [
        [title(name), *(spread(seen(run.of(CHAIN, name, size), "ms"), 2) for size in found)]
        for name in contestants(records)
    ]
    return Table("chain", "Chain, ms per stage", ["", *(f"{size} stages" for size in found)], rows)


def _latency(run: Run) -> Table:
    rows = [
        [title(name), *(spread(seen(run.of(LATENCY, name), figure), 2) for figure in ("median", "p95"))]
        for name in contestants(run.of(LATENCY))
    ]
    return Table("latency", "Latency, ms from submit to the process's own clock", ["", "median", "p95"], rows)


def _api(run: Run) -> Table:
    figures = ("get_rate", "get_median", "get_p99", "post_rate", "post_median", "post_p99")
    rows = _per_size(run, API, lambda records: [spread(seen(records, one), 1) for one in figures])
    head = ["", "clients", "GET/s", "GET ms", "GET p99", "POST/s", "POST ms", "POST p99"]
    return Table("api", "API during a fan-out of 10,000", head, list(rows))


def _growth(run: Run) -> Table:
    def cells(records: Sequence[Record]) -> list[str]:
        pages = [spread(seen(records, one), 1) for one in ("jobs_ms", "completed_ms", "tasks_ms")]
        return [spread(seen(records, "rate")), *pages]

    head = ["", "finished tasks", "tasks/s", "/jobs ms", "/jobs?state= ms", "/tasks ms"]
    return Table("growth", "Fan-out of 1,000 and first pages", head, list(_per_size(run, GROWTH, cells)))


def _memory(run: Run) -> Table:
    rows = []
    for bench, word in ((FAN_OUT, "real"), (MEMORY, "counted")):
        for name in (shape.name for shape in SHAPES):
            for size in sizes(run.of(bench, name)):
                records = run.of(bench, name, size)
                parts = sorted({figure[4:] for one in records for figure in one.figures if figure.startswith("rss.")})
                peaks = [f"{part} {_held(records, part)}" for part in parts]
                rows.append([title(name), f"{size:,}", word, ", ".join(peaks)])
    return Table(
        "memory",
        "Peak RSS of each part's largest process, and its anonymous memory at the end, MiB",
        ["", "N", "tasks", "MiB"],
        rows,
    )


def _verbs(run: Run) -> Table:
    calls = ("add", *CALLS)
    rows = _per_size(run, VERBS, lambda records: [spread(seen(records, call), 2) for call in calls])
    head = ["", "tasks", *(call.replace("_", " ").replace("retry all", "retry skipped") for call in calls)]
    return Table("verbs", "One call for all tasks of a stage, seconds", head, list(rows))


def _held(records: Sequence[Record], part: str) -> str:
    peak, own = seen(records, f"rss.{part}"), seen(records, f"anon.{part}")
    return f"{number(peak.most if peak else None)} ({number(own.most if own else None)})"


def _parts(run: Run) -> Table:
    """Take the largest fan-out that everybody ran."""
    everybody = [size for size in sizes(run.of(FAN_OUT)) if size <= 10_000]
    if not everybody:
        return Table("parts", "", [], [])
    size = everybody[-1]
    rows = []
    for name in contestants(run.of(FAN_OUT, size=size)):
        records = run.of(FAN_OUT, name, size)
        used = [seen(records, f"cpu.{part}") for part in _PARTS]
        cells = [number(found.median) if found else _NOTHING for found in used]
        if any(cells):
            rows.append([title(name), *cells])
    head = ["", "task processes", "controller", "controller + worker", "workers", "broker", "database"]
    return Table("parts", f"CPU per task in microseconds, fan-out of {size:,}", head, rows)


def _per_size(run: Run, bench: str, cells: Callable[[Sequence[Record]], list[str]]) -> Iterator[list[str]]:
    for name in contestants(run.of(bench)):
        for size in sizes(run.of(bench, name)):
            yield [title(name), f"{size:,}", *cells(run.of(bench, name, size))]
