"""A run in progress: record and show each measurement, with the load of the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import accounting
from bench.records import Load, Record, Run
from bench.resources import Resources


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a run, with one contestant."""

    title: str
    #: Expected seconds.
    seconds: float
    run: Callable[[Session], None]


class Session:
    """A run, its servers and its screen."""

    def __init__(self, resources: Resources, run: Run, console: Console) -> None:
        self.resources = resources
        self._run = run
        self._console = console
        # Redraw only between steps: drawing takes CPU time from the contestants.
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, auto_refresh=False
        )

    def run_steps(self, steps: Sequence[Step]) -> None:
        """Run all steps in turn."""
        with self._progress:
            bar = self._progress.add_task("", total=sum(step.seconds for step in steps))
            for step in steps:
                self._progress.update(bar, description=step.title, refresh=True)
                self._note_load(step.title)
                self._run_step(step)
                self._progress.update(bar, advance=step.seconds, refresh=True)

    def _run_step(self, step: Step) -> None:
        """Run a step; if it fails, record the failure and continue."""
        try:
            step.run(self)
        except (RuntimeError, AssertionError, OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
            failure = f"{step.title}: {type(error).__name__}: {error}"
            self._run.failures.append(failure)
            self._print_line(f"[red]{escape(failure)}[/red]")

    def keep_record(self, record: Record) -> None:
        """Record a measurement and show it."""
        self._run.records.append(record)
        shown = "  ".join(f"{name} {value:,.4g}" for name, value in record.figures.items() if "." not in name)
        size = f"{record.size:,}" if record.size else ""
        self._print_line(f"round {record.round}  {record.contestant:<14} {record.bench:<8} {size:>9}  {shown}")

    def _note_load(self, title: str) -> None:
        load = Load(
            datetime.now(UTC).isoformat(timespec="seconds"), title, os.getloadavg()[0], accounting.measure_busy_cores()
        )
        self._run.loads.append(load)
        self._print_line(f"[dim]before {title}: load {load.average:.2f}, {load.busy:.2f} cores busy[/dim]")

    def _print_line(self, line: str) -> None:
        self._progress.console.print(line, highlight=False)
