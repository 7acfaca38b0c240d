"""Calls `echelon` as a person or a script does: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Called:
    """How a call ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Caller:
    """A user with a shell, a home folder and perhaps a controller."""

    home: Path
    url: str | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment of the user's shell."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ECHELON_", "XDG_"))}
        mine = kept | {"HOME": str(self.home), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        return mine | ({"ECHELON_URL": self.url} if self.url else {})

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a call and leave it running, in its own session, so that a signal reaches nothing else."""
        return subprocess.Popen(
            [sys.executable, "-m", "echelon.shared.command", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home, env=self.environment(),
            start_new_session=True,
        )  # fmt: skip

    def __call__(self, *arguments: str | Path, stdin: str | None = None) -> Called:
        """Call and wait for the end."""
        done = subprocess.run(
            [sys.executable, "-m", "echelon.shared.command", *map(str, arguments)],
            input=stdin, capture_output=True, text=True, cwd=self.home, env=self.environment(), check=False,
            timeout=120,
        )  # fmt: skip
        return Called(done.returncode, done.stdout, done.stderr)
