"""Write the results of a run into docs/evidence/performance.md, between its markers, and draw the chart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench import chart, goals
from bench.records import Run, save_run
from bench.tables import Table, make_tables

_ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = _ROOT / "docs" / "evidence" / "performance.md"
RECORDS = _ROOT / "docs" / "evidence" / "performance.json"
CHART = _ROOT / "img" / "performance.svg"


def write_report(run: Run) -> None:
    """Write the document, its chart and the records beside it from a run."""
    CHART.write_text(chart.draw_chart(run), encoding="utf-8")
    save_run(run, RECORDS)
    DOCUMENT.write_text(fill_document(DOCUMENT.read_text(encoding="utf-8"), run), encoding="utf-8")


def fill_document(text: str, run: Run) -> str:
    """Return the document with new text between each `<!-- KEY -->` and `<!-- end -->`."""
    parts = {table.key: _format_table(table) for table in [goals.make_table(run), *make_tables(run)]}
    parts["run"] = _describe_run(run)
    parts["chart"] = f"![{_describe_chart(run)}](../../img/{CHART.name})"

    def replace_part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{parts.get(found[2], 'Not measured in this run.')}\n{found[3]}"

    return re.sub(r"(<!-- ([a-z-]+) -->)\n.*?(<!-- end -->)", replace_part, text, flags=re.DOTALL)


def _describe_chart(run: Run) -> str:
    return f"Fan-out, chain and latency of all contestants, {run.made[:10]}"


def _describe_run(run: Run) -> str:
    """Return the time, the machine, the load and the releases of a run."""
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


def _format_table(table: Table) -> str:
    lines = [_format_row(table.head), _format_row(["---", *("---:" for _ in table.head[1:])])]
    return "\n".join(lines + [_format_row(row) for row in table.rows])


def _format_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
