"""Writes what a run has seen into docs/performance.md, between its marks, and draws the chart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench import chart, goals
from bench.records import Run, save
from bench.tables import Table, tables

_ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = _ROOT / "docs" / "performance.md"
RECORDS = _ROOT / "docs" / "performance.json"
CHART = _ROOT / "img" / "performance.svg"


def write(run: Run) -> None:
    """Bring the document, its chart and the records beside it to a run."""
    CHART.write_text(chart.draw(run), encoding="utf-8")
    save(run, RECORDS)
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), run), encoding="utf-8")


def filled(text: str, run: Run) -> str:
    """Return the document with everything between `<!-- KEY -->` and `<!-- end -->` made anew."""
    parts = {table.key: _markdown(table) for table in [goals.table(run), *tables(run)]}
    parts["run"] = _about(run)
    parts["chart"] = f"![{_chart_words(run)}](../img/{CHART.name})"

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{parts.get(found[2], 'Not measured in this run.')}\n{found[3]}"

    return re.sub(r"(<!-- ([a-z-]+) -->)\n.*?(<!-- end -->)", part, text, flags=re.DOTALL)


def _chart_words(run: Run) -> str:
    return f"Fan-out, chain and latency of all contestants, {run.made[:10]}"


def _about(run: Run) -> str:
    """Return when, on what and with what a run was made."""
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in run.versions.items())
    busiest = max((load.busy for load in run.loads), default=0.0)
    failed = "".join(f"| failed | {failure} |\n" for failure in run.failures).rstrip()
    mean = sum(load.busy for load in run.loads) / max(1, len(run.loads))
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            f"| made | {run.made}, {run.seconds / 60:.0f} minutes, {run.options.get('rounds', '?')} rounds |",
            f"| machine | {machine} |",
            f"| load by others | {mean:.2f} cores busy in the mean of {len(run.loads)} steps, {busiest:.2f} at most |",
            f"| versions | {versions} |",
            *([failed] if failed else []),
        ]
    )


def _markdown(table: Table) -> str:
    lines = [_row(table.head), _row(["---", *("---:" for _ in table.head[1:])])]
    return "\n".join(lines + [_row(row) for row in table.rows])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
