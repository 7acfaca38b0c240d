"""Every failpoint of the product kills a real process, and no promise is broken.

`python -m tests.system.failpoints` also raises and stops at each; docs/evidence/reliability.md has its figures.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from echelon.shared.failpoints import FAILPOINTS, VARIABLE
from tests.system.cluster import ROOT, Shape
from tests.system.failpoints import CONTROLLER, VOLUME, WORKER, state_of, strike
from tests.system.process import until

#: A process that is the first on a volume: it makes the volume and its key, and seals with it.
FIRST = """
import os, sys
from echelon.shared.failpoints import arm_failpoints
from echelon.shared.sealing import Sealer
from echelon.shared.volume import Volume
arm_failpoints(os.environ)
volume = Volume.create(sys.argv[1])
sealer = Sealer(volume)
print(volume.volume_id, sealer.seal_text("a secret"))
"""


@pytest.mark.server
@pytest.mark.slow
def test_no_promise_is_broken_by_a_death_at_any_step(tmp_path: Path) -> None:
    summary = strike(tmp_path, "kill", Shape(controllers=1, workers=2, datastore="sqlite"))

    assert not summary["violations"], json.dumps(summary, indent=2)
    assert summary["failpoints reached"] == len(CONTROLLER) + len(WORKER)


@pytest.mark.parametrize("action", ["kill", "raise", "stop"])
@pytest.mark.parametrize("point", VOLUME)
def test_a_volume_that_was_begun_is_finished_by_the_next_process_and_all_agree(
    tmp_path: Path, point: str, action: str
) -> None:
    with first_on(tmp_path, f"{point}:{action}") as failing:
        if action == "stop":
            until(lambda: state_of(failing.pid) == "T", f"it stands still at {point}")
        else:
            assert failing.wait() == (-signal.SIGKILL if action == "kill" else 1)
        with first_on(tmp_path) as second:
            said = second.communicate()[0].split()
        assert second.returncode == 0
        if action == "stop":
            os.kill(failing.pid, signal.SIGCONT)
            said_late = failing.communicate()[0].split()
            assert failing.returncode == 0 and said_late[0] == said[0]
            said.append(said_late[1])
    for sealed in said[1:]:
        assert opened(tmp_path, sealed) == "a secret"


def first_on(folder: Path, failpoint: str = "") -> subprocess.Popen[str]:
    environ = os.environ | {VARIABLE: failpoint, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FIRST, str(folder / "volume")]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def opened(folder: Path, sealed: str) -> str:
    from echelon.shared.sealing import Sealer
    from echelon.shared.volume import Volume

    return Sealer(Volume.open(folder / "volume")).open_text(sealed)


def called() -> list[str]:
    """Return the names of all failpoints that the product calls, once for each place."""
    found = []
    for path in (path for folder in ("controller", "worker", "shared") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoint":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}: the name is not a literal"
                found.append(str(node.args[0].value))
    return found


def test_every_failpoint_is_called_in_one_place_and_tried_by_one_table() -> None:
    known = Counter(list(FAILPOINTS))

    assert Counter(called()) == known
    assert Counter([*CONTROLLER, *WORKER, *VOLUME]) == known
    assert len(known) >= 25
    assert all(said.endswith(".") for said in FAILPOINTS.values())
