"""The simulation of live control in CI: all seeds hold, and the loss of each mechanism is noticed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import HASH_SEED
from tests.simulation.ablations import BEGIN_AT, OF_LIVE_CONTROL

SEEDS = 40
#: Mechanisms that are taken away are looked for in so many seeds.
AT_MOST = "400"


def simulation(*arguments: str) -> str:
    """Run the simulation in a process of its own, its seeds need a hash seed; return what it printed."""
    command = [sys.executable, "-m", "tests.simulation.hands", *arguments]
    environment = os.environ | {HASH_SEED: "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_whatever_people_do_the_promises_hold() -> None:
    printed = simulation("--seeds", str(SEEDS))

    assert f"{SEEDS} seeds, 0 failed" in printed
    verbs = ("pause", "resume", "cancel", "kill", "retry", "skip", "add", "priority")
    special = ("listed", "chosen", "given", "stale", "composed", "behind")
    assert not any(f"{what} 0" in printed for what in (*verbs, *special))


def test_a_seed_with_somebody_who_interferes_means_the_same_run_every_time() -> None:
    assert simulation("--seed", "3", "--trace") == simulation("--seed", "3", "--trace")


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_LIVE_CONTROL)
def test_a_mechanism_that_is_taken_away_is_noticed(name: str) -> None:
    simulation("--from", str(BEGIN_AT.get(name, 0)), "--seeds", AT_MOST, "--without", name)
