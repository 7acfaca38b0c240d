"""Output of the commands: tables, JSON, sizes, times, and text without terminal control sequences.

Data goes to stdout, messages go to stderr. A table is drawn on a terminal and plain elsewhere: no colour, nothing cut.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final, Generic, Literal, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

Row = TypeVar("Row")

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


def print_message(text: str) -> None:
    """Write a line to stderr."""
    click.echo(text, err=True)


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


# --- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column of a table: its title and the cell that it shows of a row."""

    title: str
    cell: Callable[[Row], object]
    right: bool = False
    #: Takes the remaining room and wraps.
    wide: bool = False
    #: Its cells are states, shown in their colours.
    state: bool = False


def print_table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], *, empty: str, as_json: bool = False, without: str = ""
) -> None:
    """Write rows to stdout: JSON if asked for, a drawing on a terminal, else aligned text.

    `empty` is the message when there are no rows, `without` the title of a column to leave out.
    """
    columns = [column for column in columns if column.title != without]
    if as_json:
        print_json(rows)
    elif not rows:
        print_message(empty)
    else:
        cells = [[escape_text(column.cell(row)) for column in columns] for row in rows]
        (_draw_table if is_terminal(sys.stdout) else _print_aligned)(columns, cells)


def print_facts(facts: Mapping[str, object]) -> None:
    """Write names and values to stdout, one pair a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value not in (None, ""):
            click.echo(f"{click.style(name.ljust(width), dim=True)}  {escape_text(value)}")


def _draw_table(columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        ratio = 1 if column.wide else None
        table.add_column(column.title, justify=justify, overflow="fold", no_wrap=not column.wide, ratio=ratio)
    for row in cells:
        pairs = zip(columns, row, strict=True)
        styles = [style_state(cell) if column.state else "" for column, cell in pairs]
        table.add_row(*map(Text, row, styles))
    make_console(sys.stdout).print(table)


def _print_aligned(columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]]) -> None:
    titles = [column.title for column in columns]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for row in (titles, *cells):
        triples = zip(columns, row, widths, strict=True)
        padded = (cell.rjust(width) if column.right else cell.ljust(width) for column, cell, width in triples)
        click.echo("  ".join(padded).rstrip())
