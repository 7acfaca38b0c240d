"""A command of a client starts fast: it loads nothing that only a server needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("flask", "sqlalchemy", "gunicorn", "alembic", "rich", "marshmallow", "yaml", "jinja2", "cryptography")
PROGRAM = """
import sys
from echelon.shared.command import main_group
try:
    main_group([*sys.argv[1:]], standalone_mode=False)
except BaseException:
    pass
print(*{name.split(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize(
    "command",
    [
        "jobs --url http://127.0.0.1:9",
        "config --json",
        "--help",
        "run --help",
        "pause a --url http://127.0.0.1:9",
        "nope",
    ],
)
def test_a_light_command_loads_nothing_heavy(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command.split()], capture_output=True, text=True, check=True)

    assert not set(done.stdout.splitlines()[-1].split()) & set(HEAVY)
