"""The tables of a run, as plain cells; how they are drawn is the screen's and the document's business."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.contestant import API, CHAIN, FAN_OUT, GROWTH, LATENCY, MEMORY, VERBS
from bench.contestants import CONTESTANTS
from bench.echelon import SHAPES
from bench.records import Record, Run, list_contestants, list_sizes
from bench.summary import Summary, compare_to_limit, summarize
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


def make_tables(run: Run) -> list[Table]:
    """Return the tables of a run that have rows."""
    made = [
        _tabulate_fan_out(run),
        _tabulate_chain(run),
        _tabulate_latency(run),
        _tabulate_api(run),
        _tabulate_growth(run),
        _tabulate_memory(run),
        _tabulate_verbs(run),
        _tabulate_parts(run),
    ]
    return [table for table in made if table.rows]


def find_title(contestant: str) -> str:
    """Return a contestant's name in tables."""
    return CONTESTANTS[contestant].title if contestant in CONTESTANTS else contestant


def format_number(value: float | None, digits: int = 0) -> str:
    """Return a figure as text; empty for None."""
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def format_spread(found: Summary | None, digits: int = 0) -> str:
    """Return a median with its span."""
    if found is None:
        return _NOTHING
    if found.count == 1:
        return format_number(found.median, digits)
    median, least, most = (format_number(value, digits) for value in (found.median, found.least, found.most))
    return f"{median} ({least}-{most})"


def _tabulate_fan_out(run: Run) -> Table:
    records = run.find_records(FAN_OUT)
    found = list_sizes(records)
    rows = []
    for name in list_contestants(records):
        row = [find_title(name)]
        for size in found:
            row += [
                format_spread(summarize(run.find_records(FAN_OUT, name, size), "rate")),
                format_number(compare_to_limit(run, name, size), 2),
            ]
        rows.append(row)
    head = [""] + [cell for size in found for cell in (f"N = {size:,}: tasks/s", "share of limit")]
    return Table("fan-out", "Fan-out, 1 + N + 1 tasks", head, rows)


def _tabulate_chain(run: Run) -> Table:
    records = run.find_records(CHAIN)
    found = list_sizes(records)
    rows = [
        [find_title(name), *(format_spread(summarize(run.find_records(CHAIN, name, size), "ms"), 2) for size in found)]
        for name in list_contestants(records)
    ]
    return Table("chain", "Chain, ms per stage", ["", *(f"{size} stages" for size in found)], rows)


def _tabulate_latency(run: Run) -> Table:
    rows = [
        [
            find_title(name),
            *(format_spread(summarize(run.find_records(LATENCY, name), figure), 2) for figure in ("median", "p95")),
        ]
        for name in list_contestants(run.find_records(LATENCY))
    ]
    return Table("latency", "Latency, ms from submit to the process's own clock", ["", "median", "p95"], rows)


def _tabulate_api(run: Run) -> Table:
    figures = ("get_rate", "get_median", "get_p99", "post_rate", "post_median", "post_p99")
    rows = _tabulate_sizes(run, API, lambda records: [format_spread(summarize(records, one), 1) for one in figures])
    head = ["", "clients", "GET/s", "GET ms", "GET p99", "POST/s", "POST ms", "POST p99"]
    return Table("api", "API during a fan-out of 10,000", head, list(rows))


def _tabulate_growth(run: Run) -> Table:
    def cells(records: Sequence[Record]) -> list[str]:
        pages = [format_spread(summarize(records, one), 1) for one in ("jobs_ms", "completed_ms", "tasks_ms")]
        return [format_spread(summarize(records, "rate")), *pages]

    head = ["", "finished tasks", "tasks/s", "/jobs ms", "/jobs?state= ms", "/tasks ms"]
    return Table("growth", "Fan-out of 1,000 and first pages", head, list(_tabulate_sizes(run, GROWTH, cells)))


def _tabulate_memory(run: Run) -> Table:
    rows = []
    for bench, word in ((FAN_OUT, "real"), (MEMORY, "counted")):
        for name in (shape.name for shape in SHAPES):
            for size in list_sizes(run.find_records(bench, name)):
                records = run.find_records(bench, name, size)
                parts = sorted({figure[4:] for one in records for figure in one.figures if figure.startswith("rss.")})
                peaks = [f"{part} {_format_memory(records, part)}" for part in parts]
                rows.append([find_title(name), f"{size:,}", word, ", ".join(peaks)])
    return Table(
        "memory",
        "Peak RSS of each part's largest process, and its anonymous memory at the end, MiB",
        ["", "N", "tasks", "MiB"],
        rows,
    )


def _tabulate_verbs(run: Run) -> Table:
    calls = ("add", *CALLS)
    rows = _tabulate_sizes(run, VERBS, lambda records: [format_spread(summarize(records, call), 2) for call in calls])
    head = ["", "tasks", *(call.replace("_", " ").replace("retry all", "retry skipped") for call in calls)]
    return Table("verbs", "One call for all tasks of a stage, seconds", head, list(rows))


def _format_memory(records: Sequence[Record], part: str) -> str:
    peak, own = summarize(records, f"rss.{part}"), summarize(records, f"anon.{part}")
    return f"{format_number(peak.most if peak else None)} ({format_number(own.most if own else None)})"


def _tabulate_parts(run: Run) -> Table:
    """Tabulate the largest fan-out that all contestants ran."""
    common = [size for size in list_sizes(run.find_records(FAN_OUT)) if size <= 10_000]
    if not common:
        return Table("parts", "", [], [])
    size = common[-1]
    rows = []
    for name in list_contestants(run.find_records(FAN_OUT, size=size)):
        records = run.find_records(FAN_OUT, name, size)
        used = [summarize(records, f"cpu.{part}") for part in _PARTS]
        cells = [format_number(found.median) if found else _NOTHING for found in used]
        if any(cells):
            rows.append([find_title(name), *cells])
    head = ["", "task processes", "controller", "controller + worker", "workers", "broker", "database"]
    return Table("parts", f"CPU per task in microseconds, fan-out of {size:,}", head, rows)


def _tabulate_sizes(run: Run, bench: str, cells: Callable[[Sequence[Record]], list[str]]) -> Iterator[list[str]]:
    for name in list_contestants(run.find_records(bench)):
        for size in list_sizes(run.find_records(bench, name)):
            yield [find_title(name), f"{size:,}", *cells(run.find_records(bench, name, size))]
