"""Every table is right at every width: nothing is wider than the screen, reasons are whole, what is cut says so."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import pairwise
from operator import itemgetter

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.controller.client import Client
from echelon.controller.commands.tables import LEAST_WORDS, Cell, Column, fit_cells, print_table, shorten_ids
from echelon.shared.command import main_group
from echelon.shared.wrapping import measure_text, wrap_lines, wrap_text
from tests.system.process import Standalone

WIDTHS = (60, 80, 120, 200)
JOB = "a_job_whose_name_says_all_that_it_does_with_samples"
REASON = (
    "exit code 3: the index of /data/reference/2026-11/whole-genome-assembly-with-a-long-name-of-one-word/GRCh38.fasta "
    "cannot be found: make it first, or name another one"
)
#: What is long enough to be cut: the job, its first stage, that one's task classes.
NAMES = (
    JOB,
    "List and look at all of the samples",
    "list_two_of_the_samples > fail_for_a_long_reason",
    "fail_for_a_long",
)
Screen = Callable[..., str]


@pytest.fixture(scope="module")
def job_id(standalone: Standalone) -> str:
    """Return a job of long names whose second task fails with a long reason."""
    with Client(standalone.url) as client:
        job = client.submit_job(JOB, input={"message": REASON.removeprefix("exit code 3: ")})
        while job["state"] in ("PENDING", "RUNNING"):
            job = client.get_job(job["job_id"], wait=5)
        return job["job_id"]


@pytest.fixture
def screen(standalone: Standalone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Screen:
    """Return a terminal: what it shows of a command at a width."""

    def show(width: int, *arguments: str) -> str:
        for name, value in {"ECHELON_URL": standalone.url, "COLUMNS": str(width), "TERM": "xterm"}.items():
            monkeypatch.setenv(name, value)
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
        try:
            main_group(list(arguments), standalone_mode=False)
        except click.UsageError as error:
            error.show()
        except click.exceptions.Exit:
            pass
        said = capsys.readouterr()
        return re.sub(r"\x1b\[[0-9;]*m", "", said.out + said.err)

    return show


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("jobs", True),
        ("show JOB", True),
        ("tasks JOB", True),
        ("why JOB", False),
        ("workers", False),
        ("queues", False),
        ("health", False),
        ("config", False),
        ("artefacts JOB", False),
        ("show 0123456789abcdef-and-more", False),
        ("tasks ffffffff", False),
        ("logs JOB.0", False),
        ("priority JOB.0.1 5", False),
        ("submit nothing_of_this_name_is_in_the_catalogue", False),
        ("pause JOB", False),
    ],
)
def test_a_screen_of_any_width_shows_it_all(
    screen: Screen, job_id: str, command: str, reason: bool, width: int
) -> None:
    shown = screen(width, *command.replace("JOB", job_id[:8]).split())

    lines = shown.splitlines()
    assert lines and max(map(measure_text, lines)) <= width, shown
    if reason:
        assert "".join(REASON.split()) in "".join(shown.split())
    # What is cut is the beginning of a name, and says so.
    cut = {re.split("  +", part)[-1] for line in lines for part in line.split("…")[:-1]}
    assert all(any(name.startswith(beginning) for name in NAMES) for beginning in cut), cut


@pytest.mark.parametrize("width", WIDTHS)
def test_names_and_states_of_a_list_are_never_narrower_than_can_be_read(
    screen: Screen, job_id: str, width: int
) -> None:
    head, _, *rows = screen(width, "jobs", "--type", JOB).splitlines()

    row = next(row for row in rows if row.startswith(job_id[:8]))
    name, state = row.split()[1:3]
    assert state == "FAILED"
    assert name == JOB or (name.endswith("…") and len(name) >= 12 and JOB.startswith(name[:-1]))
    assert head.split()[:3] == ["JOB", "TYPE", "STATE"]


def test_what_a_narrow_screen_leaves_out_is_named(screen: Screen, job_id: str) -> None:
    assert "no room for FAILED TASKS" in screen(60, "jobs", "--type", JOB)
    assert "no room" not in screen(120, "jobs", "--type", JOB)


WORDS = st.text("ab é日😀", max_size=70).map(str.strip)
COLUMNS: list[Column[list[str]]] = [
    Column("ID", itemgetter(0), ids=True),
    Column("NAME", itemgetter(1), least=12),
    Column("STATE", itemgetter(2), state=True),
    Column("COUNT", itemgetter(3), right=True, spare=1),
    Column("WHERE", itemgetter(4), least=LEAST_WORDS, spare=2),
    Column("REASON", itemgetter(5), note=True),
]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["12345678", "abcdef01"]), WORDS, st.sampled_from(["RUNNING", "COMPLETED, 8 failed"]),
        st.integers(0, 10**9).map(str), WORDS, WORDS,
    ), min_size=1, max_size=6,
)  # fmt: skip


@given(ROWS, st.sampled_from(WIDTHS), st.booleans())
def test_any_table_fits(rows: list[tuple[str, ...]], width: int, head: bool) -> None:
    drawn = fit_cells(COLUMNS, [[Cell(text) for text in row] for row in rows], width, head=head)

    lines = ["".join(text for text, _ in line) for line in drawn.lines]
    text = "".join("".join(lines).split())
    assert all(measure_text(line) <= width for line in lines)
    for number, name, state, _, _, reason in rows:
        assert number in text and "".join(state.split()) in text and "".join(reason.split()) in text
        begins = name if measure_text(name) <= 12 else wrap_text(name, 8)[0][:4]
        assert "".join(begins.split()) in text


def test_ids_are_as_long_as_it_takes_to_tell_them_apart() -> None:
    assert shorten_ids(["12345678-1", "87654321-1"]) == ["12345678", "87654321"]
    assert shorten_ids(["12345678-1234", "12345678-1299", "12345678-1299"]) == ["12345678-123", "12345678-129"] + [
        "12345678-129"
    ]


@given(st.text("ab 日'\n").map(str.strip), st.integers(4, 30))
def test_wrapped_text_is_whole_and_fits(text: str, width: int) -> None:
    lines = wrap_text(text, width, later="  ")

    assert all(measure_text(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(line.startswith("  ") for _, line in pairwise(lines))


def test_a_line_that_is_a_command_can_be_copied() -> None:
    said = "to run it again:\n  echelon standalone --volume /a/long/path/of/a/volume"

    assert wrap_lines(said, 20).splitlines() == ["to run it again:", *said.splitlines()[1:]]


def test_a_command_behind_its_words_gets_a_line_of_its_own_where_there_is_no_room() -> None:
    said = "to run one: echelon run jobs.yaml a_long_name_of_a_job -p message=..."

    assert wrap_lines(said, 60).splitlines() == ["to run one:", f"  {said.removeprefix('to run one: ')}"]
    assert wrap_lines(said, 80) == said


def test_a_path_in_a_message_can_be_copied() -> None:
    path = "/tmp/echelon-jp44fbwi/jobs/7715ebb5-f132-4af2-9573-fb6d8d22a536/work"

    assert wrap_lines(f"1 artefact, 31 B, in {path}", 60).splitlines() == ["1 artefact, 31 B, in", f"  {path}"]
    assert all(measure_text(line) <= 60 for line in wrap_text(path, 60))


@pytest.mark.parametrize("amount", ["36.3 s.", "330 ms", "1,5 GiB,", "12 h 05 m"])
def test_a_number_stays_with_its_unit(amount: str) -> None:
    assert wrap_text(f"it took {amount}", 11)[-1].startswith(amount.split()[0] + " ")


def test_a_command_in_a_sentence_stays_in_one_line() -> None:
    said = "the job is paused; 'echelon resume 3f2a91c0' lets it go on"

    assert wrap_text(said, 34) == ["the job is paused;", "'echelon resume 3f2a91c0' lets it", "go on"]


def test_a_plain_table_is_aligned_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    columns: list[Column[tuple[str, int]]] = [Column("NAME", itemgetter(0)), Column("N", itemgetter(1), right=True)]

    print_table(columns, [("x" * 300, 1), ("b\x1b", 22)], empty="nothing")

    lines = capsys.readouterr().out.split("\n")
    assert lines == ["NAME" + " " * 298 + " N", "x" * 300 + "   1", "b\\x1b" + " " * 295 + "  22", ""]


def test_an_empty_table_is_a_word_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Column("NAME", str)], [], empty="no jobs")

    assert capsys.readouterr() == ("", "no jobs\n")
