"""A whole run: check the servers, estimate the time, measure, print, save."""

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
from bench.growth import Stores
from bench.machine import collect_versions, describe_machine
from bench.plan import Options, plan_steps
from bench.records import Run, save_run
from bench.resources import Resources, find_missing_servers
from bench.session import Session
from bench.tables import Table, make_tables

#: Columns of a log.
_WIDTH = 200


def run_bench(options: Options, *, target: Path | None, folder: Path | None) -> Run:
    """Run the chosen benches, print their tables and write their records to `target`."""
    console = Console() if Console().is_terminal else Console(width=_WIDTH)
    missing = find_missing_servers(frozenset().union(*(one.servers for one in options.contestants)))
    if missing:
        raise click.ClickException(f"a server is missing: apt-get install {' '.join(missing)}")
    for one in options.contestants:
        if one.name in environments.REQUIREMENTS:
            console.print(f"the environment of {one.name}: {environments.ensure_environment(one.name)}")
    with Resources(folder) as resources, closing(Stores(resources)) as filled:
        run = _begin_run(options, resources)
        planned = plan_steps(options, filled)
        minutes = sum(step.seconds for step in planned) / 60
        console.print(f"{len(planned)} steps, about {minutes:.0f} min; files in {resources.folder}", highlight=False)
        begun = time.monotonic()
        try:
            Session(resources, run, console).run_steps(planned)
        finally:
            # Keep the records of the steps before a failure.
            run.seconds = time.monotonic() - begun
            if target is not None:
                save_run(run, target)
    print_tables(console, make_tables(run))
    if run.failures:
        raise click.ClickException("these steps failed: " + "; ".join(run.failures))
    return run


def print_tables(console: Console, made: Iterable[Table]) -> None:
    """Print tables."""
    for table in made:
        grid = Grid(title=table.title, title_justify="left", title_style="bold")
        for column, head in enumerate(table.head):
            grid.add_column(head, justify="right" if column else "left")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)


def _begin_run(options: Options, resources: Resources) -> Run:
    names = [one.name for one in options.contestants]
    told = {
        "contestants": " ".join(names),
        "benches": " ".join(sorted(options.benches)),
        "rounds": str(options.rounds),
        "nice": str(os.nice(0)),
    }
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(made, describe_machine(resources.folder), collect_versions(names), told)
