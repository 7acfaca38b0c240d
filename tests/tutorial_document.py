"""Pages that are played: `python -m tests.tutorial_document` writes what their commands print into them.

A block after a line with the name of a file is written to it. In a `console` block each line after `$ ` runs in a
terminal, and the lines below it are its output. A page is played in the home folder of a user of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.contract.servers import free_port
from tests.system.process import until
from tests.terminal import run_in_terminal

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "tutorial.md"
RECIPES = DOCS / "how-to" / "recipes.md"
#: Wide enough that no path of a test is cut.
COLUMNS = 100
_BLOCK = re.compile(
    r"(?:`([\w./-]+)`(?:[^`\n]|\n(?!\n))*:\n\n)?^```(yaml|python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
_CALL = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{8}\b(?!-)")
_HOME = "/home/ada"
_URL = "http://127.0.0.1:8080"
#: Differ from run to run.
_VARY = [
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+Z)?", "TIME"),
    (r"\d\d:\d\d:\d\d", "TIME"),
    (r"\d+(\.\d+)? m?s\b", "LENGTH"),
    (r"/tmp/\S*echelon-\w{8}(?=[/\s])", "FOLDER"),
    (r"\b[0-9a-f]{16}\b", "REVISION"),
    (r"─+", "─"),
    (r"\s+", " "),
]


def without_variety(text: str) -> str:
    """Return a text without what differs from run to run: ids, times, and where lines are broken."""
    for pattern, word in [(_ID.pattern, "ID"), *_VARY]:
        text = re.sub(pattern, word, text)
    return text


class Player:
    """Plays a page: writes its files, runs its commands, and keeps an engine for those that need one."""

    def __init__(self, home: Path) -> None:
        self.home = self.folder = home
        self.url = f"http://127.0.0.1:{free_port()}"
        #: Each command that has ended, with its coloured output.
        self.screens: list[tuple[str, str]] = []
        self._ids: dict[str, str] = {}
        self._engine: subprocess.Popen[bytes] | None = None
        scripts = Path(sys.executable).parent
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ECHELON_", "XDG_"))},
            "HOME": str(home),
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "ECHELON_URL": self.url,
        }

    def play(self, page: str) -> str:
        """Return the page with the output of each command as it is now."""
        try:
            return _BLOCK.sub(self._play_block, page)
        finally:
            if self._engine is not None:
                self._engine.send_signal(signal.SIGTERM)
                self._engine.wait(60)

    def _play_block(self, block: re.Match[str]) -> str:
        name, language, text = block.groups()
        if language == "console":
            return block[0].replace(text, _CALL.sub(self._play_call, text))
        if name:
            (self.folder / name).write_text(text, encoding="utf-8")
        return block[0]

    def _play_call(self, call: re.Match[str]) -> str:
        command, shown = call.groups()
        for theirs, ours in self._ids.items():
            command = command.replace(theirs, ours)
        output = self._run(command.replace(_HOME, str(self.home)).replace(_URL, self.url))
        for theirs, ours in zip(_ID.findall(shown), _ID.findall(output), strict=False):
            self._ids[theirs] = ours
        output = output.replace(str(self.home), _HOME).replace(f" --url {self.url}", "").replace(self.url, _URL)
        begun = shown.rstrip().removesuffix("...").rstrip()
        if shown.rstrip().endswith("...") and without_variety(output).startswith(without_variety(begun)):
            output = f"{output[: len(begun)]} ...\n"
        return f"$ {command}\n{output}"

    def _run(self, command: str) -> str:
        if command.startswith("cd "):
            self.folder = Path(command[3:].replace("~", str(self.home)))
            return ""
        if command.startswith("echelon standalone "):
            return self._start(command)
        screen = run_in_terminal(command, self.folder, self._environment, COLUMNS)
        self.screens.append((command, screen.as_ansi()))
        output = screen.as_text()
        return "" if output == "\n" else output

    def _start(self, command: str) -> str:
        log = self.home / "log"
        with log.open("wb") as file:
            command = f"exec {command} --listen {self.url.removeprefix('http://')}"
            self._engine = subprocess.Popen(
                ["bash", "-c", command], cwd=self.folder, env=self._environment, stdout=file, stderr=file
            )
        until(lambda: "to submit one" in log.read_text("utf-8"), "the engine says how to submit a job")
        return log.read_text("utf-8")


def play_page(page: str) -> str:
    """Play a page in a folder of its own."""
    with tempfile.TemporaryDirectory() as home:
        return Player(Path(home)).play(page)


if __name__ == "__main__":
    for path in (PAGE, RECIPES):
        path.write_text(play_page(path.read_text(encoding="utf-8")), encoding="utf-8")
