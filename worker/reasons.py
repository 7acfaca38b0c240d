"""Which line of a program's errors says why it failed: the cause, not a frame of the trace that comes after it."""

from __future__ import annotations

import re
from typing import Final

#: Changes of colour, moves of the cursor and titles of the window.
_CONTROLS: Final = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]")
#: Lines that stand under or between causes: frames of traces in many languages, and what goes with them.
_BESIDE: Final = re.compile(
    r"\s+at \S.*|\s*\.\.\. \d+ (?:more|common frames omitted)|\s+from \S+:\d+:in .*|#\d+ (?:\{main\}|/\S+\(\d+\).*)"
    r"|Stack trace:|\s+thrown in .*|exit status \d+|Node\.js v[\d.]+|Execution halted|Calls: .*|stack backtrace:"
    r"|note: run with `RUST_BACKTRACE=.*|note: Some details are omitted.*|\s{2,}\d+: [\w:<>{}]+|\s*[}\]);^~]+"
)
#: A longer line is no frame.
_LONGEST_FRAME: Final = 500
#: The message that a program prints first, with the trace behind it.
_FIRST: Final = re.compile(r"(?:panic|fatal error): .*")


def find_cause(text: str) -> str:
    """Return the last line that says something by itself; the last one of all if none does."""
    lines = [_show_line(line) for line in _CONTROLS.sub("", text).splitlines()]
    lines = [line for line in lines if line.strip()]
    if any(line.startswith("goroutine ") for line in lines):
        for line in lines:
            if _FIRST.fullmatch(line.strip()):
                return line.strip()
    for line in reversed(lines):
        if len(line) > _LONGEST_FRAME or not _BESIDE.fullmatch(line):
            return line.strip()
    return lines[-1].strip() if lines else ""


def _show_line(line: str) -> str:
    return "".join(character if character.isprintable() else " " for character in line)
