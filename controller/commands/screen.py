"""Output of the commands: JSON, sizes, times, and text without terminal control sequences.

Data goes to stdout, messages go to stderr.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final

import click

from echelon.shared.wrapping import wrap_for, wrap_message

if TYPE_CHECKING:
    from rich.console import Console

#: Control characters, marks that change the direction of writing, and halves of surrogate pairs.
_UNSEEN: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_TRICKS: Final = re.compile(f"[\x00-\x1f{_UNSEEN}]")
#: Colours and weights, which many programs write to their logs.
_COLOURS: Final = re.compile(r"\x1b\[[0-9;:]*m")
_NAMES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

STATE_STYLES: Final = {
    "PENDING": "dim",
    "QUEUED": "dim",
    "RUNNING": "cyan",
    "COMPLETED": "green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "SKIPPED": "magenta",
    "UP": "green",
    "DRAINING": "yellow",
    "LOST": "bold red",
    "ok": "green",
    "bad": "bold red",
}


# --- text -----------------------------------------------------------------------------------------------------------


def escape_text(value: object) -> str:
    """Return a value as one line; control characters become visible escapes."""
    return _TRICKS.sub(_escape_match, "" if value is None else str(value))


def escape_log(text: str) -> str:
    """Return a log's text for a terminal: line ends and tabs stay, colours go, other control characters are escaped."""
    text = _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _TRICKS.sub(lambda found: found[0] if found[0] in "\n\t" else _escape_match(found), text)


def _escape_match(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _NAMES.get(found[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def format_bytes(size: int) -> str:
    """Return a number of bytes with its unit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_duration(seconds: float) -> str:
    """Return a length of time with its unit."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


def format_time(text: str | None) -> str:
    """Return a time of the REST interface (ISO 8601) in the local time zone, to the second."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_moment(text: str | None) -> str:
    """Return a time of the REST interface in the local time zone, as short as it can be: today's have no date."""
    if not text:
        return ""
    moment, now = datetime.fromisoformat(text).astimezone(), datetime.now().astimezone()
    if moment.date() == now.date():
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%m-%d %H:%M" if moment.year == now.year else "%Y-%m-%d")


def count_seconds(start: str, end: str | None = None) -> float:
    """Return the seconds between two times of the REST interface, or until now; never less than 0."""
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return max(0.0, (until - datetime.fromisoformat(start)).total_seconds())


def format_elapsed(start: str | None, end: str | None) -> str:
    """Return the time from start to end, or until now."""
    return format_duration(count_seconds(start, end)) if start else ""


def format_count(number: int, word: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def style_state(text: str) -> str:
    """Return the style of a state with what is said after it: paused or completed with failures is yellow."""
    state, comma, _ = text.partition(", ")
    return "yellow" if comma else STATE_STYLES.get(state, "")


# --- streams --------------------------------------------------------------------------------------------------------


def print_message(text: str, *, colour: str | None = None) -> None:
    """Write a message to stderr, wrapped for a terminal."""
    click.secho(wrap_message(text), fg=colour, err=True)


def print_sentence(text: str) -> None:
    """Write a sentence to stdout, wrapped for a terminal."""
    click.echo(wrap_for(sys.stdout, text))


def is_terminal(stream: IO[str]) -> bool:
    """Tell whether this stream is a terminal."""
    return stream.isatty()


def make_console(stream: IO[str]) -> Console:
    """Return a rich console on a stream; it respects NO_COLOR and dumb terminals."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_json(value: object) -> None:
    """Write one JSON document to stdout, control characters escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo(re.sub(f"[{_UNSEEN}]", lambda found: f"\\u{ord(found[0]):04x}", text))
