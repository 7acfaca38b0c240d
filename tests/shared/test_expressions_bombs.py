"""Expressions that would cost much, or reach what they must not."""

from __future__ import annotations

import time

import pytest

from echelon.shared.expressions import TemplateError, compile_template
from echelon.shared.messages import JsonValue

BOUND = 2.0
SCOPE: dict[str, JsonValue] = {"x": "a" * 60_000, "y": "b" * 60_000, "n": 2**62, "list": ["a"] * 1000, "map": {"a": 1}}

BOMBS = [
    "'a' * 10**9",
    "'a' * 1000000000",
    "x * 1000000",
    "list * 1000000",
    "[1] * 1000000000",
    "9 ** 9 ** 9",
    "n ** n",
    "n * n",
    "n * n * n",
    "'%1000000000d' % 1",
    "'%s' % x",
    "x.replace('a', y)",
    "x | replace('a', y)",
    "x.replace('', y)",
    "y.join(x)",
    "x | join(y)",
    "x | list | join(y)",
    "'a'.center(1000000000)",
    "'a'.ljust(1000000000)",
    "'a'.zfill(1000000000)",
    "'\\t'.expandtabs(1000000000)",
    "'{:>1000000000}'.format(1)",
    "'{0.__class__}'.format(x)",
    "x.format_map(map)",
    "x | center(1000000000)",
    "x | indent(1000000000)",
    "x | format(1)",
    "x | wordwrap(1)",
    "[1] | batch(1000000000, 1) | list",
    "x | map('replace', 'a', y) | list",
    "x.encode().hex()",
    "n.to_bytes(1000000000, 'big')",
    "range(1000000000) | list",
    "lipsum(n=1000000)",
    "cycler('a')",
    "namespace(a=1)",
    "dict(a=1)",
    "x.__class__.__mro__",
    "x['__class__']",
    "x | attr('__class__')",
    "''.__class__.__base__.__subclasses__()",
    "(1).__add__(1)",
    "map.update({'b': 2})",
    "list.append(1)",
    "list.clear()",
    "map.pop('a')",
    "x.upper",
    "self.__init__",
    "(" * 500 + "1" + ")" * 500,
    "[" * 500 + "]" * 500,
    "-" * 1500 + "1",
    "not " * 400 + "1",
    "1/0",
    "1//0",
    "n % 0",
    "list[5000]",
    "map.missing",
    "x.index('zzz')",
    "x - 1",
    "x < 1",
    "x | int + 'a'",
    "{[]: 1}",
    "{1: 2} | tojson",
    "x | pprint",
    "x | random",
]


@pytest.mark.parametrize("source", BOMBS)
def test_a_bomb_is_refused_soon_and_as_a_template_error(source: str) -> None:
    before = repr(SCOPE["map"]), len(str(SCOPE["list"]))
    started = time.monotonic()

    with pytest.raises(TemplateError) as caught:
        compile_template("{{ " + source + " }}", None).render_text(SCOPE)

    assert time.monotonic() - started < BOUND
    assert len(str(caught.value)) < 3000
    assert "0x" not in str(caught.value)
    assert (repr(SCOPE["map"]), len(str(SCOPE["list"]))) == before


@pytest.mark.parametrize(
    "source", ["x ~ y", "x.replace('a', 'bb')", "x | upper", "n + n", "list | join(', ')", "x.split('aa')"]
)
def test_what_costs_little_is_allowed(source: str) -> None:
    assert compile_template("{{ " + source + " }}", None).render_text(SCOPE)


def test_an_expression_sees_only_its_own_names() -> None:
    template = compile_template("{{ a }}{{ a ~ 1 }}", {"a"})

    assert template.render_text({"a": "x", "b": "secret"}) == "xx1"
