"""docs/reference/control.md says what the table of the core says."""

from __future__ import annotations

from tests.control_document import DOCUMENT, written


def test_the_tables_of_the_control_document_are_made_from_the_core() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    assert written(text) == text, "run `python -m tests.control_document`"


def test_a_table_that_says_something_else_is_caught() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").replace("it is not paused", "it is paused", 1)

    assert written(text) != text
