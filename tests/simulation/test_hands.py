"""The simulation with people who interfere: so many seeds hold, and what is taken away is noticed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import HASH_SEED
from tests.simulation.hands import MECHANISMS

SEEDS = 40


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
    assert not any(f"{verb} 0" in printed for verb in ("pause", "resume", "cancel", "kill", "retry", "skip", "add"))


@pytest.mark.slow
@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_that_is_taken_away_is_noticed(name: str) -> None:
    simulation("--seeds", "200", "--without", name)
