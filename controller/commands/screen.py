"""What a person or a program reads: tables, JSON, sizes, times, and text that a terminal cannot be tricked with.

Data goes to stdout, words go to stderr. A table is drawn on a terminal and plain (no colour, nothing cut) elsewhere.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

#: Control characters, what turns the direction of writing, and halves of surrogate pairs.
_UNSEEN: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_TRICKS: Final = re.compile(f"[\x00-\x1f{_UNSEEN}]")
#: Colours and weights; programs that write them to a log mean no harm.
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


def safe(value: object) -> str:
    """Return a value as one line that a terminal shows and does not obey."""
    return _TRICKS.sub(_visible, "" if value is None else str(value))


def safe_lines(text: str) -> str:
    """Return a log's text for a terminal: line ends and tabs stay, colours are taken out, the rest is made visible."""
    text = _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _TRICKS.sub(lambda found: found[0] if found[0] in "\n\t" else _visible(found), text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _NAMES.get(found[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def amount(size: int) -> str:
    """Return a number of bytes for people."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def length(seconds: float) -> str:
    """Return a length of time for people."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


def moment(text: str | None) -> str:
    """Return a time of the interface (ISO 8601) in the local time zone, to the second."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(start: str, end: str | None = None) -> float:
    """Return the seconds between two times of the interface, or until now; a clock that is behind makes them 0."""
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return max(0.0, (until - datetime.fromisoformat(start)).total_seconds())


def lasted(start: str | None, end: str | None) -> str:
    """Return how long something took, or takes until now, for people."""
    return length(age(start, end)) if start else ""


def counted(number: int, word: str) -> str:
    """Return a number with its word, in the plural where it needs one."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


# --- streams --------------------------------------------------------------------------------------------------------


def words(text: str) -> None:
    """Write a line for people to stderr."""
    click.echo(text, err=True)


def is_terminal(stream: IO[str]) -> bool:
    """Tell whether a person reads this stream."""
    return stream.isatty()


def console(stream: IO[str]) -> Console:
    """Return a rich console on a stream; it knows NO_COLOR and dumb terminals."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_json(value: object) -> None:
    """Write one JSON document to stdout; what could trick a terminal is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo(re.sub(f"[{_UNSEEN}]", lambda found: f"\\u{ord(found[0]):04x}", text))


# --- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    right: bool = False
    #: Takes what room is left and wraps.
    wide: bool = False
    #: Its words are states, shown in their colours.
    state: bool = False


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Write rows to stdout: drawn on a terminal, else aligned text; `empty` is said where there are none."""
    cells = [[safe(cell) for cell in row] for row in rows]
    if not cells:
        words(empty)
    elif is_terminal(sys.stdout):
        _draw(columns, cells)
    else:
        _align(columns, cells)


def print_facts(facts: Mapping[str, object]) -> None:
    """Write names and values to stdout, one pair a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value not in (None, ""):
            click.echo(f"{click.style(name.ljust(width), dim=True)}  {safe(value)}")


def _draw(columns: Sequence[Column], cells: Iterable[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.wide,
            ratio=1 if column.wide else None,
        )
    for row in cells:
        table.add_row(
            *(
                Text(cell, style=STATE_STYLES.get(cell.partition(",")[0], "") if column.state else "")
                for column, cell in zip(columns, row, strict=True)
            )
        )
    console(sys.stdout).print(table)


def _align(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    titles = [column.title for column in columns]
    widths = [max(len(row[place]) for row in (titles, *cells)) for place in range(len(columns))]
    for row in (titles, *cells):
        padded = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())
