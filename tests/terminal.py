"""A terminal for commands: what a person sees when a command has ended, with its colours."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """The lines that a command has written; a line that it has overwritten has its last text."""

    def __init__(self) -> None:
        self._lines: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._style = ""

    def feed(self, text: str) -> None:
        for parameters, control, line_end, words in _TOKEN.findall(text):
            if words:
                self._write(words)
            elif line_end == "\r":
                self._column = 0
            elif line_end == "\n":
                self._row, self._column = self._row + 1, 0
                self._lines += [[] for _ in range(self._row + 1 - len(self._lines))]
            elif control == "A":
                self._row = max(0, self._row - int(parameters or 1))
            elif control == "K":
                self._lines[self._row] = []
            elif control == "m":
                self._style = "" if parameters in ("", "0") else f"{self._style}\x1b[{parameters}m"

    def _write(self, words: str) -> None:
        line = self._lines[self._row]
        line += [(" ", "")] * (self._column - len(line))
        line[self._column : self._column + len(words)] = [(letter, self._style) for letter in words]
        self._column += len(words)

    def as_text(self) -> str:
        """Return the lines without colours."""
        return self._join(coloured=False)

    def as_ansi(self) -> str:
        """Return the lines with the codes of their colours."""
        return self._join(coloured=True)

    def _join(self, *, coloured: bool) -> str:
        lines = []
        for line in self._lines:
            written = ""
            for style, letters in groupby(line, lambda cell: cell[1]):
                words = "".join(letter for letter, _ in letters)
                written += f"{style}{words}\x1b[0m" if coloured and style else words
            lines.append(written.rstrip())
        return "\n".join(lines).strip("\n") + "\n"


def run_in_terminal(command: str, folder: Path, environment: Mapping[str, str], columns: int = 100) -> Screen:
    """Run a line of a shell in a terminal of its own, and return its screen when it has ended."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {**environment, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        except OSError:
            pass  # the end of a terminal
    os.close(ours)
    screen = Screen()
    screen.feed(written.decode("utf-8"))
    return screen
