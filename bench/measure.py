"""One whole run: look whether everything is there, tell how long it takes, measure, print, save."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table as Grid

from bench import environments
from bench.ground import Ground, missing_servers
from bench.growth import Stores
from bench.machine import all_versions, machine
from bench.plan import Options, steps
from bench.records import Run, save
from bench.session import Session
from bench.tables import Table, tables

#: Columns of a screen that nobody looks at: a log.
_WIDTH = 200


def measure(options: Options, *, target: Path | None, folder: Path | None) -> Run:
    """Measure what is wanted, print its tables and write its records to `target`."""
    console = Console() if Console().is_terminal else Console(width=_WIDTH)
    missing = missing_servers(frozenset().union(*(one.servers for one in options.contestants)))
    if missing:
        raise click.ClickException(f"a server is missing: apt-get install {' '.join(missing)}")
    for one in options.contestants:
        if one.name in environments.REQUIREMENTS:
            console.print(f"the environment of {one.name}: {environments.environment(one.name)}")
    with Ground(folder) as ground, closing(Stores(ground)) as filled:
        run = _begun(options, ground)
        planned = steps(options, filled)
        minutes = sum(step.seconds for step in planned) / 60
        console.print(f"{len(planned)} steps, about {minutes:.0f} min; files in {ground.folder}", highlight=False)
        begun = time.monotonic()
        try:
            Session(ground, run, console).work_off(planned)
        finally:
            # What was measured before something went wrong is not lost.
            run.seconds = time.monotonic() - begun
            if target is not None:
                save(run, target)
    show(console, tables(run))
    if run.failures:
        raise click.ClickException("these steps failed: " + "; ".join(run.failures))
    return run


def show(console: Console, made: Iterable[Table]) -> None:
    """Print tables."""
    for table in made:
        grid = Grid(title=table.title, title_justify="left", title_style="bold")
        for column, head in enumerate(table.head):
            grid.add_column(head, justify="right" if column else "left")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)


def _begun(options: Options, ground: Ground) -> Run:
    names = [one.name for one in options.contestants]
    told = {
        "contestants": " ".join(names),
        "benches": " ".join(sorted(options.benches)),
        "rounds": str(options.rounds),
        "nice": str(os.nice(0)),
    }
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(made, machine(ground.folder), all_versions(names), told)
