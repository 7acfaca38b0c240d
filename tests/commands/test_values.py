"""The options -p and -H become values, and an error says how to write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.commands.values import describe_mistakes, find_types, parse_headers, parse_parameters
from echelon.shared.errors import InvalidInput

TYPES = {"n": "integer", "x": "number", "b": "boolean", "j": "json", "s": "string"}


@dataclass(frozen=True, slots=True)
class Wrong:
    pointer: str
    detail: str


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("s=text", "text"),
        ("s=", ""),
        ("s=a=b", "a=b"),
        ("s=12", "12"),
        ("unknown=12", "12"),
        ("n=-12", -12),
        ("x=1.5", 1.5),
        ("x=2", 2),
        ("x=1e3", 1000.0),
        ("b=yes", True),
        ("b=0", False),
        ('j={"a": [1, null]}', {"a": [1, None]}),
        ("s:=5", 5),
        ('s:="5"', "5"),
        ("s=@@home", "@home"),
    ],
)
def test_text_becomes_what_the_input_declares(written: str, value: object) -> None:
    found = list(parse_parameters([written], TYPES).values())

    assert found == [value]
    assert type(found[0]) is type(value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("n=1.5", "-p n: '1.5' is not a whole number"),
        ("n=" + "9" * 5000, "is not a whole number"),
        ("x=inf", "-p x: 'inf' is not a number"),
        ("b=maybe", "-p b: 'maybe' is neither true nor false"),
        ("j=hello", "-p j: is not JSON at column 1: Expecting value; text stands in double quotes"),
        ("j=NaN", "-p j: NaN is not JSON"),
        ("j=" + "[" * 100_000, "nested too deeply"),
        ("s=@/missing", "-p s: cannot read /missing: No such file or directory (a value that begins with @: @@)"),
        ("n=\x1b[2J", "'\\\\x1b[2J' is not a whole number"),
    ],
)
def test_what_does_not_fit_is_named(written: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_parameters([written], TYPES)

    assert said in str(caught.value)


def test_an_input_without_a_type_has_that_of_the_first_task_that_takes_it() -> None:
    taken = [{"a": None, "b": "json"}, {"a": "number", "x": "json"}]

    types = find_types({"a": None, "b": "string", "c": None}, taken)

    assert types == {"a": "number", "b": "string"}


def test_all_values_that_do_not_fit_are_named_at_once() -> None:
    with pytest.raises(InvalidInput, match=r"-p n: .*\n-p b: "):
        parse_parameters(["n=a", "b=b"], TYPES)


@pytest.mark.parametrize("written", ["name", "=value", ":=1", ""])
def test_what_is_no_pair_is_a_usage_error(written: str) -> None:
    with pytest.raises(click.UsageError, match="write name=value"):
        parse_parameters([written], {})


def test_a_name_given_twice_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match="-p a is given twice"):
        parse_parameters(["a=1", "a=2"], {})


def test_a_value_may_come_from_a_file_without_its_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("one\ntwo\n")

    assert parse_parameters([f"s=@{file}"], {}) == {"s": "one\ntwo"}


def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path) -> None:
    large, binary = tmp_path / "large", tmp_path / "binary"
    large.write_bytes(b"x" * ((1 << 20) + 1))
    binary.write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidInput, match=r"holds more than 1 MiB(.|\n)*is not UTF-8 text"):
        parse_parameters([f"a=@{large}", f"b=@{binary}"], {})


def test_headers_are_written_as_over_http(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("Bearer abc\n")

    found = parse_headers(["X-One:1", "X-Two:  a: b ", f"Authorization: @{file}"])

    assert found == {"X-One": "1", "X-Two": "a: b", "Authorization": "Bearer abc"}


@pytest.mark.parametrize("written", ["S3CR3T", "bad name: S3CR3T", ": S3CR3T"])
def test_what_is_no_header_is_a_usage_error_without_its_value(written: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse_headers([written])

    assert "write 'Name: value'" in caught.value.message
    assert "S3CR3T" not in caught.value.message.replace("-H S3CR3T", "")


def test_a_header_given_twice_is_a_usage_error_whatever_its_case() -> None:
    with pytest.raises(click.UsageError, match="is given twice"):
        parse_headers(["X-A: 1", "x-a: 2"])


@given(st.text())
def test_any_text_is_a_value_or_a_mistake_and_nothing_else(text: str) -> None:
    for kind in TYPES:
        try:
            parse_parameters([f"{kind}={text.replace('@', '')}"], TYPES)
        except InvalidInput:
            continue


def test_a_mistake_says_how_the_input_is_given() -> None:
    mistakes = [
        Wrong("#/input/url", "is required"),
        Wrong("#/headers/Authorization", "is required"),
        Wrong("#", "is odd"),
        Wrong("#/type", "is unknown"),
        Wrong("#/input/typo", "is not an input"),
        Wrong("#/input/token", "is taken from the header 'X-Token'"),
    ]

    assert describe_mistakes("", mistakes).split("\n") == [
        "input url: is required  (-p url=...)",
        "header Authorization: is required  (-H 'Authorization: ...')",
        "is odd",
        "#/type: is unknown",
        "input typo: is not an input",
        "input token: is taken from the header 'X-Token'  (-H 'X-Token: ...')",
    ]
