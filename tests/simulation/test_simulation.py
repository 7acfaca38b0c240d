"""The simulation in CI: so many seeds hold, and a mechanism that is taken away is noticed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.simulation.__main__ import HASH_SEED, regressions
from tests.simulation.ablations import ABLATIONS
from tests.simulation.run import run_seed, shrink

#: A seed takes some 0.2 s of a processor (the model in a few hundred lines of before took 0.01 s): an engine that
#: sweeps a real database every second does so ten thousand times a seed. So CI runs fewer than the 2,000 seeds that
#: were hoped for; a release runs more, by hand.
SEEDS = int(os.environ.get("ECHELON_SIMULATION_SEEDS", "300" if os.environ.get("CI") else "100"))
#: Ablations are looked for in so many seeds.
AT_MOST = 300


def simulation(*arguments: str) -> subprocess.Popen[str]:
    """Start the simulation in a process of its own: its seeds need a hash seed."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = os.environ | {HASH_SEED: "0"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outputs(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Wait for processes and return what they printed; fail with it when one of them failed."""
    printed = [process.communicate()[0] for process in processes]
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text
    return printed


@pytest.mark.slow
def test_every_seed_holds_and_every_kind_of_fault_strikes() -> None:
    share = str(SEEDS // 2)

    printed = outputs(
        [
            simulation("--regressions", "--seeds", share),
            simulation("--seeds", share, "--from", share),
        ]
    )

    never = [set(re.findall(r"never struck: (.*)", text)[0].split(", ")) for text in printed]
    assert set.intersection(*never) <= {"none"}


@pytest.mark.slow
def test_every_mechanism_that_is_taken_away_is_noticed() -> None:
    names = sorted(ABLATIONS)
    assert len(names) >= 12

    parts = [[f"--ablate={name}" for name in names[half::2]] for half in (0, 1)]
    printed = outputs([simulation(*part, "--seeds", str(AT_MOST)) for part in parts])

    told = [line for text in printed for line in text.splitlines() if line.startswith("without ")]
    assert len(told) == len(names)
    assert "NOT NOTICED" not in "".join(printed)


def test_a_seed_means_the_same_run_every_time() -> None:
    printed = outputs([simulation("--seed", "1", "--trace") for _ in range(2)])

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
    assert regressions()
