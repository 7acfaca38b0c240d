"""The expressions inside ``{{ ... }}``, on jinja2's sandbox and fenced further.

They see the values of one scope, some filters and some methods of text, lists and mappings. No globals, no calls
of anything else. Operations by which a short text costs much (powers, repetition, padding, wide formats) are refused or
bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import SandboxedEnvironment

from echelon.shared.errors import InvalidInput

#: Longest source of one expression, in characters.
MAX_SOURCE = 2000
#: Longest text or list that an operation may make.
MAX_RESULT = 1 << 20
#: Integers beyond this cannot be sent as JSON.
MAX_INTEGER = 1 << 63

# fmt: off
_FILTERS = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "first", "float", "int", "items", "last", "length", "list",
        "lower", "max", "min", "reverse", "round", "sort", "string", "sum", "title", "trim", "truncate", "unique",
        "upper", "urlencode",
    }
)
_METHODS = frozenset(
    {
        "capitalize", "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isascii", "isdecimal",
        "isdigit", "isidentifier", "islower", "isnumeric", "isspace", "isupper", "items", "join", "keys", "lower",
        "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit",
        "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "values",
    }
)
# fmt: on
_RECEIVERS = (str, list, tuple, dict)
#: Errors of evaluation that a value can cause; none of them is a bug of Echelon.
_VALUE_ERRORS = (
    JinjaError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
)


class ExpressionError(InvalidInput):
    """The expression cannot be read or evaluated."""


class _Sandbox(SandboxedEnvironment):
    """Jinja's sandbox without globals, with bounded operations."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not (_is_number(left) and _is_number(right)) or operator == "**":
            raise SecurityError(f"{operator} is for numbers" if operator != "**" else "powers are not allowed")
        if operator == "*" and abs(left * right) >= MAX_INTEGER and isinstance(left * right, int):
            raise SecurityError("the number is too large")
        return super().call_binop(context, operator, left, right)

    def is_safe_callable(self, obj: Any) -> bool:
        receiver = getattr(obj, "__self__", None)
        return isinstance(receiver, _RECEIVERS) and getattr(obj, "__name__", "") in _METHODS

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        name = getattr(obj, "__name__", "")
        if self.is_safe_callable(obj) and name == "replace":
            return _replace_text(obj.__self__, *args, **kwargs)
        if self.is_safe_callable(obj) and name == "join":
            return _join_texts(args[0] if args else (), obj.__self__)
        if not self.is_safe_callable(obj):
            raise SecurityError(f"{name or 'this'}() cannot be called here")
        return super().call(context, obj, *args, **kwargs)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _replace_text(text: object, old: str, new: str, count: int = -1) -> str:
    source = str(text)
    found = source.count(old) if count < 0 else min(count, source.count(old))
    if len(source) + found * len(new) > MAX_RESULT:
        raise SecurityError("the text becomes too long")
    return source.replace(old, new, count)


def _join_texts(values: Iterable[object], d: str = "") -> str:
    parts, size = [], 0
    for value in values:
        parts.append(value if isinstance(value, str) else str(value))
        size += len(parts[-1]) + len(d)
        if size > MAX_RESULT:
            raise SecurityError("the text becomes too long")
    return d.join(parts)


def _make_environment() -> _Sandbox:
    sandbox = _Sandbox(undefined=StrictUndefined, autoescape=False)
    sandbox.globals.clear()
    sandbox.filters = {name: sandbox.filters[name] for name in _FILTERS}
    sandbox.filters.update(replace=_replace_text, join=_join_texts)
    return sandbox


class Expression:
    """One compiled expression. Safe for any thread."""

    __slots__ = ("_evaluate", "leading", "names", "source")

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            raise ExpressionError(f"the expression is longer than {MAX_SOURCE} characters")
        self.source = source
        sandbox = _make_environment()
        try:
            tree = _parse_source(sandbox, source)
            self._evaluate: Callable[..., object] = sandbox.compile_expression(source, undefined_to_none=False)
        except (JinjaError, SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise ExpressionError(_explain_error(error)) from error
        #: Names that it reads.
        self.names = frozenset(name.name for name in _all_names(tree))
        if "self" in self.names:
            raise ExpressionError("'self' is the template engine's own word; write {self}")
        #: Those of them whose value may stand at the beginning of the result.
        self.leading = frozenset(_find_leading(tree))

    def find_value(self, scope: Mapping[str, object]) -> object:
        """Return what it evaluates to; raise ExpressionError when these values do not allow it."""
        try:
            result = self._evaluate({name: scope[name] for name in self.names if name in scope})
            if isinstance(result, Undefined):
                str(result)
            return _settle_value(result)
        except _VALUE_ERRORS as error:
            raise ExpressionError(_explain_error(error)) from error


def _parse_source(sandbox: SandboxedEnvironment, source: str) -> nodes.Expr:
    parser = Parser(sandbox, source, state="variable")
    tree = parser.parse_expression()
    if not parser.stream.eos:
        parser.fail(f"unexpected {parser.stream.current.value!r}")
    return tree


def _all_names(tree: nodes.Expr) -> list[nodes.Name]:
    own = [tree] if isinstance(tree, nodes.Name) else []
    return own + list(tree.find_all(nodes.Name))


def _find_leading(tree: nodes.Node) -> Collection[str]:
    """Return the names whose value may begin the result; text of the expression's own has its author's word."""
    if isinstance(tree, nodes.CondExpr):
        return {*_find_leading(tree.expr1), *(_find_leading(tree.expr2) if tree.expr2 else ())}
    if isinstance(tree, nodes.Concat):
        return _first_of(tree.nodes)
    if isinstance(tree, nodes.Add):
        return _first_of([tree.left, tree.right])
    own = {tree.name} if isinstance(tree, nodes.Name) else set()
    return own | {name.name for name in tree.find_all(nodes.Name)}


def _first_of(operands: Iterable[nodes.Expr]) -> set[str]:
    names: set[str] = set()
    for operand in operands:
        if isinstance(operand, nodes.Const) and operand.value != "":
            break
        names.update(_find_leading(operand))
    return names


def _settle_value(result: object) -> object:
    """Return a plain value: what filters yield bit by bit becomes a list."""
    if result is None or isinstance(result, str | int | float | list | dict):
        return result
    if callable(result):
        raise ExpressionError("the result is a method; call it with ()")
    if isinstance(result, Iterable):
        listed = list(islice(result, MAX_RESULT + 1))
        if len(listed) > MAX_RESULT:
            raise ExpressionError("the list becomes too long")
        return listed
    raise ExpressionError(f"the result is a {type(result).__name__}, not a value")


def _explain_error(error: BaseException) -> str:
    text = (error.message if isinstance(error, JinjaError) else str(error)) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
