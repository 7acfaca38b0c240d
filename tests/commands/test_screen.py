"""Output holds no control sequences for a terminal."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.commands.logs import escape_pieces
from echelon.controller.commands.screen import (
    escape_log,
    escape_text,
    format_bytes,
    format_duration,
    print_json,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 日本 😀", "plain ü 日本 😀"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202etxt", "abc\\u202etxt"),
        ("\ud800", "\\ud800"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
    ],
)
def test_a_value_is_one_line_that_a_terminal_does_not_obey(text: str, shown: str) -> None:
    assert escape_text(text) == shown


def test_a_log_keeps_its_lines_and_loses_its_colours() -> None:
    assert escape_log("\x1b[31mred\x1b[0m\r\nnext\rover\tend\x1b[2J") == "red\nnext\nover\tend\\x1b[2J"


@given(st.text(alphabet="a\r\n\x1b[0;31m\x07"), st.lists(st.integers(0, 40)))
def test_where_a_log_is_cut_into_pieces_makes_no_difference(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]

    assert "".join(escape_pieces(pieces)) == escape_log(text)


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5))
def test_json_is_read_as_it_was_written_and_holds_no_control_characters(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("click.echo", written.append)
        print_json(value)

    assert json.loads(written[0]) == value
    assert not set(written[0]) & {chr(code) for code in (*range(10), *range(11, 32), *range(127, 160))}


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (9 << 50, "9216.0 TiB")]
)
def test_sizes_are_for_people(size: int, shown: str) -> None:
    assert format_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "40 ms"), (0.9999, "1.0 s"), (59.94, "59.9 s"), (59.97, "1 m 00 s"), (61, "1 m 01 s"), (7260, "2 h 01 m")],
)
def test_lengths_of_time_are_for_people(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
