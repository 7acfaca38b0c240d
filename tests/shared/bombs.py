"""Run as a program: evaluates every operation of the expressions on values that make much work of it, under limits.

It writes each expression before it evaluates it. The kernel ends it when one takes too much time of a processor.
"""

from __future__ import annotations

import contextlib
import itertools
import resource
import sys
from collections.abc import Iterator

from echelon.shared.errors import InvalidInput
from echelon.shared.expressions import Computed
from echelon.shared.sandbox import MAX_SOURCE, Expression, ExpressionError
from tests.shared.operations import FILTERS, FUNCTIONS, METHODS, OPERATORS, TESTS

#: Seconds of processor for all of it; without the bounds a single one takes longer.
SECONDS = 30
MEMORY = 1 << 30
LARGEST = 65_536

VALUES = {
    "text": "a" * LARGEST,
    "other": "a" + "b" + "a" * (LARGEST // 2),
    "digits": "9" * LARGEST,
    "wide": "%999999999d",
    "deep": "[" * LARGEST,
    "wide_list": "[" + "1," * (LARGEST // 2 - 2) + "1]",
    "path": "0." * (LARGEST // 2) + "0",
    "texts": ["aa"] * (LARGEST // 5),
    "lists": [[1]] * (LARGEST // 4),
    "map": {str(key): "a" for key in range(LARGEST // 10)},
    "small": 0.5,
    "much": 5_000_000,
    "less": -5_000_000,
    "most": (1 << 63) - 1,
}
#: Values whose operations are tried with all arguments.
RECEIVERS = ("text", "wide", "texts", "most")
ARGUMENTS = ("much", "less", "other", "path")


def call_each() -> Iterator[str]:
    """Yield each filter, test and method on values, with arguments that are numbers, texts, or both."""
    for name, most in FILTERS.items():
        yield from (f"{value} | {name}({chosen})" for chosen in choose(most) for value in RECEIVERS)
        yield from (f"{value} | {name}(attribute=path)" for value in ("texts", "lists"))
        yield repeat_step("text", f"|{name}")
    for name, most in METHODS.items():
        yield from (f"{value}.{name}({chosen})" for chosen in choose(most) for value in ("text", "texts", "map"))
        yield repeat_step("text", f".{name}()")
    for name, tried in FUNCTIONS.items():
        yield from (f"{name}({given})" for given in tried)
        yield f"{name}(" * 40 + "text" + ")" * 40
        yield "+".join([f"len({name}({tried[0]}))"] * 30)
    for name, most in TESTS.items():
        yield from (f"{value} is {name}({chosen})" for chosen in choose(most) for value in RECEIVERS)


def choose(most: int) -> Iterator[str]:
    """Yield lists of arguments: none, each single one, and pairs."""
    yield ""
    if most >= 1:
        yield from ARGUMENTS
    if most >= 2:
        yield from (f"{one}, {other}" for one in ARGUMENTS for other in ("much", "'floor'", "text"))


def repeat_step(start: str, step: str) -> str:
    """Return an expression that does the same again and again, as often as its length allows."""
    return start + step * ((MAX_SOURCE - len(start)) // len(step))


def fill_up(expression: str) -> Iterator[str]:
    """Yield an expression of an operator as it is, or with its step repeated and nested as its length allows."""
    if "§" not in expression:
        yield expression
        return
    before, step, after = expression.split("§")
    yield before + step * ((MAX_SOURCE - len(before) - len(after)) // max(1, len(step))) + after
    yield before + step * 50 + after


def main() -> None:
    """Evaluate them all; what is refused is refused as an error of the expression."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    done = 0
    operators = (one for several in OPERATORS.values() for expression in several for one in fill_up(expression))
    for source in itertools.chain(call_each(), operators):
        print(source[:300], flush=True)
        with contextlib.suppress(ExpressionError, InvalidInput):
            Computed(Expression(source), 0).text(VALUES)
        done += 1
    print(f"evaluated {done}")


if __name__ == "__main__":
    sys.exit(main())
