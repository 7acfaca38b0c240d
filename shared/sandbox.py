"""The expressions inside ``{{ ... }}``, on jinja2's sandbox and fenced further.

They see the values of one scope, some filters, some functions and some methods of text, lists and mappings. No calls of
anything else. Every operation is one of `echelon.shared.bounded`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import SandboxedEnvironment

from echelon.shared.bounded import (
    MAX_BITS,
    METHODS,
    bound_value,
    calculate,
    call_method,
    join_texts,
    list_filters,
    list_functions,
    list_tests,
)
from echelon.shared.errors import InvalidInput

#: Longest source of one expression, in characters.
MAX_SOURCE = 2000
#: Operations of one expression, so that no long chain of them makes much work.
MAX_OPERATIONS = 100

#: Parts of an expression that do no work.
_FREE = (nodes.Const, nodes.Name, nodes.Getattr)
_RECEIVERS = (str, list, tuple, dict)
#: Errors of evaluation that a value can cause; none of them is a bug of Echelon.
_VALUE_ERRORS = (
    JinjaError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    RecursionError,
    MemoryError,
)


_FUNCTIONS = list_functions()


class ExpressionError(InvalidInput):
    """The expression cannot be read or evaluated."""


class _Generator(CodeGenerator):
    """Jinja's compiler, with a bound around what makes a value out of several without an operator or a call."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Write the code of a part of an expression."""
        if isinstance(node, nodes.Concat):
            self.write("environment.concatenate(")
            super().visit(nodes.Tuple(node.nodes, "load"), *args, **kwargs)
            self.write(")")
        elif isinstance(node, nodes.List | nodes.Dict | nodes.Tuple):
            self.write("environment.bound_value(")
            super().visit(node, *args, **kwargs)
            self.write(")")
        else:
            super().visit(node, *args, **kwargs)


class _Sandbox(SandboxedEnvironment):
    """Jinja's sandbox with functions of our own as its only globals, and with bounded operations."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(SandboxedEnvironment.default_binop_table)
    bound_value = staticmethod(bound_value)
    concatenate = staticmethod(join_texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return calculate(operator, self.binop_table[operator], left, right)

    def is_safe_callable(self, obj: Any) -> bool:
        if self._is_function(obj):
            return True
        receiver = getattr(obj, "__self__", None)
        return isinstance(receiver, _RECEIVERS) and getattr(obj, "__name__", "") in METHODS

    def _is_function(self, obj: Any) -> bool:
        return any(obj is function for function in self.globals.values())

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        name = getattr(obj, "__name__", "")
        if not self.is_safe_callable(obj):
            raise SecurityError(f"{name or 'this'}() cannot be called here")
        if self._is_function(obj):
            return obj(*args, **kwargs)
        return call_method(name, obj, args, kwargs)


def _make_environment() -> _Sandbox:
    # Not optimized: the compiler would evaluate constant parts without these bounds.
    sandbox = _Sandbox(undefined=StrictUndefined, autoescape=False, optimized=False)
    sandbox.globals.clear()
    sandbox.globals.update(_FUNCTIONS)
    sandbox.filters, sandbox.tests = list_filters(), list_tests()
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
        #: Names that it reads: not those of functions that it calls.
        self.names = frozenset(name.name for name in _all_names(tree))
        if "self" in self.names:
            raise ExpressionError("'self' is the template engine's own word; write {self}")
        #: Those of them whose value may stand at the beginning of the result.
        self.leading = self.names.intersection(_find_leading(tree))

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
    parts = [tree, *tree.find_all(nodes.Expr)]
    if sum(not isinstance(part, _FREE) for part in parts) > MAX_OPERATIONS:
        parser.fail(f"more than {MAX_OPERATIONS} operations")
    if any(isinstance(part, nodes.Const) and _is_too_large(part.value) for part in parts):
        parser.fail("the number is too large")
    return tree


def _is_too_large(value: object) -> bool:
    return isinstance(value, int | float) and not abs(value) < 1 << MAX_BITS


def _all_names(tree: nodes.Expr) -> list[nodes.Name]:
    own = [tree] if isinstance(tree, nodes.Name) else []
    calls = [tree, *tree.find_all(nodes.Call)]
    called = {id(call.node) for call in calls if isinstance(call, nodes.Call) and _names_function(call.node)}
    return [name for name in [*own, *tree.find_all(nodes.Name)] if id(name) not in called]


def _names_function(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Name) and node.name in _FUNCTIONS


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
    if callable(result):
        raise ExpressionError("the result is a method; call it with ()")
    value = bound_value(result)
    if value is None or isinstance(value, str | int | float | list | tuple | dict):
        return list(value) if isinstance(value, tuple) else value
    raise ExpressionError(f"the result is a {type(value).__name__}, not a value")


def _explain_error(error: BaseException) -> str:
    text = (error.message if isinstance(error, JinjaError) else str(error)) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
