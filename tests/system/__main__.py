"""`python -m tests.system --seed N --profile smoke|sqlite|full [--replay FILE]`: faults for real processes."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import click

from tests.system.chaos import PROFILES, run_chaos
from tests.system.nemesis import read_schedule


@click.command()
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--faults", type=int, help="How many; the profile's number otherwise.")
@click.option("--gap", type=float, help="Seconds between two faults, on average.")
@click.option("--profile", type=click.Choice(list(PROFILES)), default="smoke", show_default=True)
@click.option(
    "--replay", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="schedule.jsonl of another run."
)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where the run is kept.")
def main(
    seed: int, faults: int | None, gap: float | None, profile: str, replay: Path | None, folder: Path | None
) -> None:
    """Strike a cluster of real processes; exit 1 when a promise was broken."""
    chosen = PROFILES[profile]
    chosen = dataclasses.replace(chosen, faults=faults or chosen.faults, gap=gap or chosen.gap)
    folder = folder or Path(tempfile.mkdtemp(prefix="echelon-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"in {folder}", flush=True)
    summary = run_chaos(seed, chosen, folder, replay=read_schedule(replay) if replay else None)
    print(json.dumps(summary, indent=2))
    raise SystemExit(1 if summary["violations"] else 0)


if __name__ == "__main__":
    main()
