"""Of a long log the lines that matter: of failed tasks, with a text, the last ones."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.client import Client
from echelon.controller.commands.logs import choose_lines, prefix_lines
from echelon.shared.command import main_group
from tests.system.process import Standalone

HEADS = ["==> stage 0 A, task 0, stdout <==", "==> stage 0 A, task 1, stdout <=="]
LOG = "==> stage 0 A, task 0, stdout <==\none\nError: x\n\n==> stage 0 A, task 1, stdout <==\ntwo\nthree\nerror y"


@pytest.mark.parametrize(
    ("pattern", "tail", "shown"),
    [
        (
            "error",
            None,
            [HEADS[0], "Error: x", HEADS[1], "error y"],
        ),
        (None, 1, [HEADS[0], "Error: x", HEADS[1], "error y"]),
        ("t", 2, [HEADS[1], "two", "three"]),
        ("^t.*E$", None, [HEADS[1], "three"]),
        ("one|\\Qrror: \\E", None, [HEADS[0], "one", "Error: x"]),
        ("nothing", None, []),
    ],
)
def test_lines_are_chosen_under_the_names_of_their_parts(
    pattern: str | None, tail: int | None, shown: list[str]
) -> None:
    assert "".join(choose_lines([LOG], pattern, tail)).splitlines() == shown


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", "is not a regular expression of RE2"),
        ("x(?=y)", "there is no look-around; write out"),
        (r"a\Z", r"write \\z"),
        ("a{9999}", r"repeats 9999 times .* write \* or \+"),
        ("a{,5}", r"write \{0,5\}"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_with_the_remedy(pattern: str, told: str) -> None:
    with pytest.raises(click.UsageError, match=f"--grep: .*{told}"):
        list(choose_lines([LOG], pattern, None))


def test_a_followed_line_stands_behind_its_task(standalone: Standalone) -> None:
    with Client(standalone.url) as client:
        job_id = client.submit_job("fan", wait=60)["job_id"]
        shown = "".join(prefix_lines(client.read_log(job_id, follow=True))).splitlines()

    assert sorted(shown) == ["0.0 (1) | this is 1", "0.1 (2) | this is 2", "0.2 (3) | this is 3"]


def test_blank_lines_of_a_task_stay_and_gaps_between_parts_go() -> None:
    parts = [
        "==> stage 1 A, task 3 x, spawn task, attempt 2, stderr <==\na\n\nb\n\n",
        '==> stage 0 B, task 7 ({"n": "(1), attempt 3, stdout"}), attempt 1, stdout <==\nc\n\n\n\n==> odd <==\nd',
    ]

    assert "".join(prefix_lines("".join(parts))).splitlines() == [
        "1.spawn attempt 2 | a", "1.spawn attempt 2 |", "1.spawn attempt 2 | b",
        '0.7 ({"n": "(1), attempt 3, stdout"}) | c', '0.7 ({"n": "(1), attempt 3, stdout"}) |',
        '0.7 ({"n": "(1), attempt 3, stdout"}) |', "odd | d",
    ]  # fmt: skip


@given(st.lists(st.text("a\n=>< ", max_size=9)), st.integers(1, 3))
def test_where_the_log_is_cut_into_pieces_makes_no_difference(pieces: list[str], tail: int) -> None:
    whole = "".join(pieces)

    assert list(choose_lines(pieces, "a", tail)) == list(choose_lines([whole], "a", tail))


class Joined(str):
    """A piece of a log; tells how much text has been copied to stand before it."""

    __slots__ = ()
    copied = 0

    def __radd__(self, before: str) -> str:
        Joined.copied += len(before)
        return before + str(self)


def test_a_line_without_an_end_is_put_together_once_however_many_pieces_it_has() -> None:
    pieces = [Joined("progress\r")] * 1000

    assert list(choose_lines(pieces, "gress", None)) == [f"{''.join(pieces)}\n"]
    assert Joined.copied <= len(pieces) * len(pieces[0])


def test_only_failed_tasks_are_shown_with_their_reasons(
    standalone: Standalone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(standalone.url) as client:
        job_id = client.submit_job("fan", wait=60)["job_id"]
    monkeypatch.setenv("ECHELON_URL", standalone.url)

    main_group(["logs", job_id, "--failed"], standalone_mode=False)

    assert capsys.readouterr().out == "==> task 0.1 (2): exit code 1 <==\nthis is 2\n\n"


@pytest.mark.parametrize("options", [["-f", "--tail", "3"], ["-f", "--failed"], ["--attempt", "1"], ["--since", "x"]])
def test_what_makes_no_sense_together_is_refused(
    standalone: Standalone, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    with Client(standalone.url) as client:
        job_id = client.submit_job("hello")["job_id"]
    monkeypatch.setenv("ECHELON_URL", standalone.url)

    with pytest.raises(click.UsageError, match=r"give neither|for one task|--since x: "):
        main_group(["logs", job_id, *options], standalone_mode=False)
