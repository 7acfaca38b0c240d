"""The broker's outage again and again on a machine that is kept busy: does anything that runs run again?

`python -m tests.system.outage_stress --times 9 --busy 4` prints each round and, of one that went wrong, the
attempts that did not count; it exits with the number of such rounds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tests.system.cluster import Cluster, Shape
from tests.system.drills import CATALOGUE, broker_back, whole

_NOT_COUNTED = "SELECT task, attempt, outcome, error FROM attempts WHERE outcome <> 'completed' ORDER BY ended_at"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processors busy."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


@click.command()
@click.option("--times", default=9, show_default=True)
@click.option("--busy", "processes", default=4, show_default=True, help="Processes that do nothing but run.")
@click.option("--away", default=12.0, show_default=True, help="Seconds for which the broker is away.")
def main(times: int, processes: int, away: float) -> None:
    """Let the broker go and come back, and count the rounds in which something ran again."""
    wrong = 0
    with (
        tempfile.TemporaryDirectory(prefix="echelon-outages-", ignore_cleanup_errors=True) as folder,
        Cluster(Path(folder), CATALOGUE, Shape(workers=2, slots=2)) as cluster,
    ):
        for number in range(times):
            try:
                with busy(processes):
                    print(f"{number}: {broker_back(cluster, away=away):.2f} s", flush=True)
            except AssertionError as error:
                wrong += 1
                print(f"{number}: {error}", *cluster.psql(_NOT_COUNTED), sep="\n  ", flush=True)
            whole(cluster)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
