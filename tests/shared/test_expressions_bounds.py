"""No operation of an expression makes much work or memory, whatever values, arguments and nesting it is given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import nodes

from echelon.shared.bounded import METHODS as ALLOWED_METHODS
from echelon.shared.bounded import list_filters, list_functions, list_tests
from echelon.shared.expressions import MAX_EXPRESSIONS, MAX_TEMPLATE, TemplateError, compile_template
from echelon.shared.sandbox import MAX_OPERATIONS
from tests.shared.operations import FILTERS, FUNCTIONS, METHODS, OPERATORS, TESTS

ROOT = Path(__file__).resolve().parent.parent.parent


def kinds_of(kind: type[nodes.Node]) -> Iterator[str]:
    for one in kind.__subclasses__():
        if one.abstract or one.__subclasses__():
            yield from kinds_of(one)
        if not one.abstract:
            yield one.__name__


def test_every_operation_that_there_is_stands_in_the_table() -> None:
    assert set(FILTERS) == set(list_filters())
    assert set(FUNCTIONS) == set(list_functions())
    assert set(TESTS) == set(list_tests())
    assert set(METHODS) == ALLOWED_METHODS
    assert set(OPERATORS) == {*kinds_of(nodes.Expr), *kinds_of(nodes.Helper)}


def test_no_operation_makes_much_work_or_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.shared.bombs"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    last = (done.stdout.splitlines() or [""])[-1]
    assert done.returncode == 0 and last.startswith("evaluated "), f"{last[:300]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("7 | round(5000000, 'floor')", "round is for numbers, and for at most 308 digits"),
        ("7 | round(-5000000)", "at most 308 digits"),
        ("wide is odd", "odd is for numbers"),
        ("wide is divisibleby(1)", "divisibleby is for numbers"),
        ("long.rfind(other)", "rfind takes too long a text"),
        ("long | trim(other)", "trim takes too long a text"),
        ("lists | sort(attribute=path)", "sort takes too long a text"),
        ("lists | sum(start=[])", "sum is for numbers"),
        ("long + long + long", "the text becomes too long"),
        ("long ~ long ~ long", "the text becomes too long"),
        ("[long, long, long]", "too large"),
        ("most * most", "the number is too large"),
        ("1e999", "the number is too large"),
        ("9" * 1000, "the number is too large"),
        ("long | truncate(-5)", "expected length"),
        ("1" + "+1" * (MAX_OPERATIONS + 1), "more than 100 operations"),
        ("sequence(0, 131073)", "sequence gives at most 131072 numbers"),
        ("sequence(0, 'a')", "sequence is for whole numbers"),
        ("sequence(0, true)", "sequence is for whole numbers"),
        ("from_json('[' ~ '[' * 5)", "* is for numbers"),
        ("from_json(most)", "from_json is for text"),
        ("split(most)", "split is for text"),
        ("range(3)", "cannot be called here"),
        ("len.__class__('a')", "cannot be called here"),
        ("long | center(5000000)", "No filter named 'center'"),
    ],
)
def test_a_costly_operation_is_refused_with_a_reason(source: str, said: str) -> None:
    scope = {
        "long": "a" * 60_000, "other": "ab" + "a" * 30_000, "path": "0." * 30_000 + "0", "wide": "%999999999d",
        "lists": [[1]] * 16_000, "most": 2**63 - 1,
    }  # fmt: skip

    with pytest.raises(TemplateError) as caught:
        compile_template("{{ " + source + " }}", None).render_text(scope)

    assert said in str(caught.value)


def test_a_text_has_only_so_many_expressions() -> None:
    assert compile_template("{{1+1}}" * MAX_EXPRESSIONS, None).render_text({}) == "2" * MAX_EXPRESSIONS
    with pytest.raises(TemplateError, match="more than 100 expressions"):
        compile_template("{{1+1}}" * (MAX_EXPRESSIONS + 1), None)


def test_a_text_that_becomes_too_long_is_not_put_together() -> None:
    template = compile_template("{a}" * 40_000, None)

    with pytest.raises(TemplateError, match=f"'a' holds more than {MAX_TEMPLATE} bytes"):
        template.render_text({"a": "a" * 65_536})
