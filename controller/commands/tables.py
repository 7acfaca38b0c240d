"""Tables of the commands: the one place that decides which columns a screen has room for, and how wide they are.

A table that does not fit gives way in this order: notes go under their rows, wrapped at words; names are cut, with an
ellipsis; columns of less weight are left out, and a line under the table names them. Elsewhere than on a terminal a
table is aligned text with all columns, and nothing is cut.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import click

from echelon.controller.commands.screen import (
    escape_text,
    is_terminal,
    make_console,
    print_json,
    print_message,
    style_state,
)
from echelon.shared.wrapping import cut_text, measure_screen, measure_text, wrap_text

Row = TypeVar("Row")

#: No column of words becomes narrower than this.
LEAST_WORDS: Final = 8
_GAP: Final = 2
_NOTE_INDENT: Final = 4
_SHORT_ID: Final = 8


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column of a table: its title and the cell that it shows of a row."""

    title: str
    cell: Callable[[Row], object]
    right: bool = False
    #: Its cells are states, shown in their colours.
    state: bool = False
    #: Its cells are ids: on a terminal the beginnings that tell them apart.
    ids: bool = False
    #: How a terminal shows a cell, if that is shorter.
    short: Callable[[Row], object] | None = None
    #: It goes under its rows where they have no room for it.
    note: bool = False
    #: Where room is short, its cells are cut, to no less than this; 0: never.
    least: int = 0
    #: It may be left out; the highest number first, 0: never.
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell that is drawn."""

    text: str
    style: str = ""


#: A line of a drawn table: its pieces of text with their styles.
Line = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class DrawnTable:
    """A table as lines; `left_out` are the titles of columns without room."""

    lines: list[Line]
    left_out: list[str]


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
    elif is_terminal(sys.stdout):
        _print_drawing(draw_table(columns, rows, measure_screen()))
    else:
        _print_aligned(columns, [[escape_text(column.cell(row)) for column in columns] for row in rows])


def print_facts(facts: Mapping[str, object]) -> None:
    """Write names and values to stdout, one pair a line; a terminal gets long values in several."""
    width = max(map(len, facts)) + _GAP
    room = measure_screen() - width if is_terminal(sys.stdout) else 0
    for name, value in facts.items():
        if value not in (None, ""):
            text = escape_text(value)
            first, *others = wrap_text(text, room) if room > LEAST_WORDS else [text]
            click.echo(click.style(name.ljust(width), dim=True) + first)
            for line in others:
                click.echo(" " * width + line)


# --- drawing --------------------------------------------------------------------------------------------------------


def draw_table(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int) -> DrawnTable:
    """Return a table that is no wider than `width`, with a head."""
    cells = [_make_cells(column, rows) for column in columns]
    return fit_cells(columns, list(zip(*cells, strict=True)), width)


def fit_cells(
    columns: Sequence[Column[Row]], rows: Sequence[Sequence[Cell]], width: int, *, head: bool = True
) -> DrawnTable:
    """Return rows of cells as lines that are no wider than `width`."""
    shown = _measure_columns(columns, rows, width, head)
    below = [at for at, column in enumerate(columns) if column.note and at not in shown]
    said = [any(row[at].text for row in rows) for at in range(len(columns))]
    left_out = [one.title for at, one in enumerate(columns) if said[at] and at not in shown and not one.note]
    lines: list[Line] = []
    if head:
        titles = [Cell(column.title, "bold") for column in columns]
        lines += [_draw_row(columns, titles, shown), [("─" * min(width, _sum_widths(shown.values())), "dim")]]
    for row in rows:
        lines.append(_draw_row(columns, row, shown))
        for at in below:
            notes = wrap_text(row[at].text, width - _NOTE_INDENT) if row[at].text else []
            lines += [[(" " * _NOTE_INDENT, ""), (note, row[at].style)] for note in notes]
    return DrawnTable(lines, left_out)


def _measure_columns(
    columns: Sequence[Column[Row]], rows: Sequence[Sequence[Cell]], width: int, head: bool
) -> dict[int, int]:
    """Return the columns that stand in the rows, by their numbers, and their widths."""
    widths: dict[int, int] = {}
    for at, column in enumerate(columns):
        natural = max((measure_text(row[at].text) for row in rows), default=0)
        # An empty column says nothing, and its room is of use to others.
        if natural:
            widths[at] = max(natural, measure_text(column.title) if head else 0)
    notes = [at for at in reversed(widths) if columns[at].note]
    spare = sorted((at for at in widths if columns[at].spare), key=lambda at: -columns[at].spare)
    for at in (*notes, *spare):
        least = {key: min(natural, columns[key].least or natural) for key, natural in widths.items()}
        if _sum_widths(least.values() if not any(key in widths for key in notes) else widths.values()) <= width:
            break
        del widths[at]
    while _sum_widths(widths.values()) > width:
        wide = {at: size for at, size in widths.items() if columns[at].least and size > columns[at].least}
        # In a window that is narrower than all of this, whatever is widest.
        at = max(wide or widths, key=lambda key: widths[key])
        widths[at] -= 1
    return widths


def _sum_widths(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + _GAP * (len(found) - 1)


def _draw_row(columns: Sequence[Column[Row]], row: Sequence[Cell], widths: Mapping[int, int]) -> Line:
    line: Line = []
    for at, width in widths.items():
        text = cut_text(row[at].text, width)
        gap = " " * (width - measure_text(text))
        pieces = (gap, text) if columns[at].right else (text, gap)
        line += [(piece, row[at].style if piece is text else "") for piece in pieces]
        line.append((" " * _GAP, ""))
    while line and not line[-1][0].strip():
        line.pop()
    return line


def _make_cells(column: Column[Row], rows: Sequence[Row]) -> list[Cell]:
    """Return the cells of a column as a terminal shows them."""
    texts = [escape_text((column.short or column.cell)(row)) for row in rows]
    if column.ids:
        texts = shorten_ids(texts)
    return [Cell(text, style_state(text) if column.state else "") for text in texts]


def shorten_ids(ids: Sequence[str]) -> list[str]:
    """Return the beginnings of ids: as long as it takes to tell them apart, and the same length for all."""
    length = _SHORT_ID
    while len({one[:length] for one in ids}) < len(set(ids)):
        length += 1
    return [one[:length] for one in ids]


def _print_drawing(drawn: DrawnTable) -> None:
    from rich.text import Text

    console = make_console(sys.stdout)
    for line in drawn.lines:
        console.print(Text.assemble(*line), soft_wrap=True)
    if drawn.left_out:
        print_message(f"no room for {', '.join(drawn.left_out)}: a wider window shows more, --json all")


def _print_aligned(columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]]) -> None:
    titles = [column.title for column in columns]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for row in (titles, *cells):
        triples = zip(columns, row, widths, strict=True)
        padded = (cell.rjust(width) if column.right else cell.ljust(width) for column, cell, width in triples)
        click.echo("  ".join(padded).rstrip())
