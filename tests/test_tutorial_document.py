"""Every command of the tutorial and of the recipes prints what its page shows, and so does the README's first one."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.terminal import Screen, run_in_terminal
from tests.terminal_picture import read_picture
from tests.tutorial_document import COLUMNS, PAGE, RECIPES, play_page, without_variety

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("path", [PAGE, RECIPES], ids=lambda path: path.stem)
def test_the_commands_of_a_page_print_what_it_shows(path: Path) -> None:
    page = path.read_text(encoding="utf-8")

    played = play_page(page)

    assert without_variety(played) == without_variety(page), "python -m tests.tutorial_document writes it anew"


def test_the_readme_shows_what_its_first_command_prints(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"(echelon run .*)\n```\n\n```text\n(.*?)```", readme, re.DOTALL)
    assert shown
    command = f"{Path(sys.executable).parent / 'echelon'} {shown[1].removeprefix('echelon ')}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ECHELON_")}

    screen = run_in_terminal(command, ROOT, {**environment, "HOME": str(tmp_path)}, COLUMNS)

    assert without_variety(screen.as_text()) == without_variety(shown[2]), screen.as_text()


def test_the_picture_of_a_terminal_shows_lines_of_the_tutorial() -> None:
    page = "".join(without_variety(PAGE.read_text(encoding="utf-8")).split())

    lines = ["".join(without_variety(line).split()) for line in read_picture().removeprefix("echelon").splitlines()]

    assert len(lines) > 10
    assert [line for line in lines if line not in page] == [], "python -m tests.terminal_picture draws it anew"


def test_a_screen_shows_the_last_text_of_a_line_that_was_written_again() -> None:
    screen = Screen()

    screen.feed("first\n\x1b[32mhalf done\x1b[0m\r\n\x1b[1A\x1b[2K\x1b[1;31mdone\x1b[0m\r\nlast\r\n")

    assert screen.as_text() == "first\ndone\nlast\n"
    assert screen.as_ansi().splitlines()[1].startswith("\x1b[1;31md")
