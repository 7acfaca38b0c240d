"""The figures of the product count what they say: each module once, hard sentences and no others, real cycles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.figures import all_sentences, find_files, is_hard, largest_cycle


@pytest.mark.parametrize(
    "source",
    [
        '"""What a worker holds is counted."""\n',
        '"""Doc.\n\n* What changes often is small.\n"""\n',
        'def f():\n    """Return it. Whoever reads it waits."""\n',
        "x = 1  # nobody waits for it\n",
        "#: who has paused it\nx = 1\n",
        "# The second line tells that it waits in\n# vain.\n",
    ],
)
def test_a_hard_sentence_is_found(source: str) -> None:
    said = all_sentences("shared/planted.py", ast.parse(source), source)

    assert [is_hard(found.text) for found in said].count(True) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "What is a lease?",
        "Return what a worker holds.",
        "The user who paused it.",
        "The container runs as `nobody`.",
        "`what` names the verb.",
        "what: the verb",
        "Whether it runs.",
    ],
)
def test_a_plain_sentence_is_not_called_hard(sentence: str) -> None:
    assert not is_hard(sentence)


def test_a_sentence_is_found_at_its_own_line() -> None:
    source = '"""Doc. One more.\n\nTwo\nlines. Last.\n"""\n'

    said = all_sentences("shared/planted.py", ast.parse(source), source)

    assert [(found.line, found.text) for found in said] == [
        (1, "Doc."),
        (1, "One more."),
        (3, "Two lines."),
        (4, "Last."),
    ]


def test_a_linked_folder_is_counted_once(tmp_path: Path) -> None:
    for folder in ("echelon", "shared"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "port.py").touch()
    (tmp_path / "echelon" / "shared").symlink_to("../shared")

    found = [str(path.relative_to(tmp_path)) for path in find_files(tmp_path)]

    assert found == ["echelon/port.py", "shared/port.py"]


def test_the_largest_cycle_counts_the_modules_that_reach_each_other() -> None:
    assert largest_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == 3
    assert largest_cycle({"a": {"b"}, "b": set()}) == 0
