"""The simulation in CI: all seeds hold, and the loss of each mechanism is noticed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import HASH_SEED, read_regressions
from tests.simulation.ablations import OF_FAULTS
from tests.simulation.run import run_seed, shrink

SEEDS = int(os.environ.get("ECHELON_SIMULATION_SEEDS", "300" if os.environ.get("CI") else "150"))
#: Ablations are looked for in so many seeds.
AT_MOST = 300


def start_simulation(*arguments: str) -> subprocess.Popen[str]:
    """Start the simulation in a process of its own: its seeds need a hash seed."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = os.environ | {HASH_SEED: "0"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_simulation(*arguments: str) -> str:
    """Run the simulation and return what it printed; fail with it when it failed."""
    process = start_simulation(*arguments)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    return printed


@pytest.mark.slow
def test_every_seed_holds_and_every_kind_of_fault_strikes() -> None:
    printed = run_simulation("--regressions", "--seeds", str(SEEDS))

    assert "never struck: none" in printed
    assert f"{SEEDS + len(read_regressions())} seeds" in printed


@pytest.mark.slow
def test_every_mechanism_that_is_taken_away_is_noticed() -> None:
    assert len(OF_FAULTS) >= 12

    printed = run_simulation("--ablate=all", "--seeds", str(AT_MOST))

    told = [line for line in printed.splitlines() if line.startswith("without ")]
    assert len(told) == len(OF_FAULTS)
    assert "NOT NOTICED" not in printed


def test_a_seed_means_the_same_run_every_time() -> None:
    printed = [run_simulation("--seed", "1", "--trace") for _ in range(2)]

    assert printed[0] == printed[1]
    assert "fault" in printed[0]


def test_without_faults_nothing_runs_twice_but_what_was_killed_in_the_calm() -> None:
    result = run_seed(2, only=frozenset())

    assert result.violations == []
    assert result.steps == []
    assert set(result.facts["outcomes"]) <= {  # type: ignore[call-overload]
        "completed", "failed", "spawn_invalid", "stopped", "lost", "interrupted",
    }  # fmt: skip


def test_a_failure_is_made_small() -> None:
    assert shrink(list(range(100)), lambda only: {17, 42} <= only) == [17, 42]


def test_seeds_that_ever_failed_are_kept() -> None:
    assert read_regressions()
