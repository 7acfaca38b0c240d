"""The example of live control does what the lines at its head say, typed into a shell as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.commands.calling import ROOT
from tests.system.process import Standalone, until

EXAMPLE = ROOT / "example" / "control.yaml"
HEAD = re.match(r"(#.*\n)+", EXAMPLE.read_text(encoding="utf-8"))
#: (a line to type, what the comment beside it says)
LINES = re.findall(r"^# {3}(.*?)(?: {2,}# (.*))?$", HEAD[0] if HEAD else "", re.MULTILINE)


def shell(line: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def says(told: str, line: str, environment: dict[str, str]) -> bool:
    return told in shell(line, environment).stdout


def test_the_example_of_live_control_goes_as_it_says(tmp_path: Path) -> None:
    (engine, _), (submit, _), *others = LINES
    assert engine == f"echelon standalone --catalogue {EXAMPLE.relative_to(ROOT)}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with Standalone(tmp_path, EXAMPLE.read_text(encoding="utf-8")) as running:
        environment = {**os.environ, "ECHELON_URL": running.url, "PATH": path}
        variable, call = submit.split("=", 1)
        environment[variable] = shell(f"echo {call}", environment).stdout.strip()

        for line, told in others:
            if line.startswith("echelon why"):
                until(partial(says, told, line, environment), f"{line}: {told}")
            else:
                done = shell(line, environment)
                assert done.returncode == 0, f"{line}: {done.stderr}"

        assert running.state(environment[variable]) == "COMPLETED"
        log = "".join(running.client.read_log(environment[variable]))
        assert "Extra: late" in log and "no licence for part 2" in log
        running.terminate()
    assert sum(line.startswith("echelon why") for line, _ in others) >= 3
