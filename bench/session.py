"""One run of the bench while it goes on: what is measured is kept, shown and put beside what the machine did."""

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
from bench.ground import Ground
from bench.records import Load, Record, Run


@dataclass(frozen=True, slots=True)
class Step:
    """Something to be done in one go, by one contestant."""

    title: str
    #: Expected.
    seconds: float
    take: Callable[[Session], None]


class Session:
    """A run, its servers and its screen."""

    def __init__(self, ground: Ground, run: Run, console: Console) -> None:
        self.ground = ground
        self._run = run
        self._console = console
        # It moves when a step has ended and not in between: a screen that is drawn takes CPU from the contestants.
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, auto_refresh=False
        )

    def work_off(self, steps: Sequence[Step]) -> None:
        """Take all steps in turn."""
        with self._progress:
            bar = self._progress.add_task("", total=sum(step.seconds for step in steps))
            for step in steps:
                self._progress.update(bar, description=step.title, refresh=True)
                self._note_load(step.title)
                self._try(step)
                self._progress.update(bar, advance=step.seconds, refresh=True)

    def _try(self, step: Step) -> None:
        """Take a step; one contestant that fails does not spoil the others' run."""
        try:
            step.take(self)
        except (RuntimeError, AssertionError, OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
            failure = f"{step.title}: {type(error).__name__}: {error}"
            self._run.failures.append(failure)
            self._say(f"[red]{escape(failure)}[/red]")

    def keep(self, record: Record) -> None:
        """Keep a measurement and show it."""
        self._run.records.append(record)
        shown = "  ".join(f"{name} {value:,.4g}" for name, value in record.figures.items() if "." not in name)
        size = f"{record.size:,}" if record.size else ""
        self._say(f"round {record.round}  {record.contestant:<14} {record.bench:<8} {size:>9}  {shown}")

    def _note_load(self, title: str) -> None:
        load = Load(datetime.now(UTC).isoformat(timespec="seconds"), title, os.getloadavg()[0], accounting.busy())
        self._run.loads.append(load)
        self._say(f"[dim]before {title}: load {load.average:.2f}, {load.busy:.2f} cores busy[/dim]")

    def _say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False)
