"""A test run leaves nothing in the folder for temporary files, and takes away what a run that was killed has left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: A test that makes folders there and leaves a worker's own behind.
SAMPLE = "tests/worker/test_serve.py"
#: Beyond the largest number that a process can have.
NOBODY = 1 << 22


def test_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / f"echelon-tests-{NOBODY + 1}" / "left").mkdir(parents=True)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-x", SAMPLE],
        cwd=ROOT, env=environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert [one.name.partition("-of-")[0] for one in tmp_path.iterdir()] == ["pytest"]
