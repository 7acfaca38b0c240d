"""Placeholders in commands, arguments and environment values: ``{name}``, ``{{ name }}``, ``{{ expression }}``.

A text is read once, by `compile_template`, into literal parts and slots; rendering fills the slots and never looks at
the values again, so that braces in a value mean nothing. Braces without a name are literal: ``{print $1}``, ``{}``,
JSON text, whatever stands in braces directly after a ``$``. A backslash directly before a brace makes that one literal.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from heapq import nlargest
from typing import Final

from echelon.shared.errors import InvalidInput
from echelon.shared.messages import JsonValue
from echelon.shared.sandbox import MAX_SOURCE, Expression, ExpressionError

#: Names that every task has in scope beside its inputs.
BUILTIN_NAMES: Final = frozenset(
    {"job_id", "task_id", "index", "attempt", "stage", "job_dir", "task_dir", "spawn_file", "output_file"}
)
#: Longest argument that Linux takes, in bytes: MAX_ARG_STRLEN without the closing NUL.
MAX_ARGUMENT: Final = 128 * 1024 - 1
#: Longest text of a template, before and after its places are filled, in characters.
MAX_TEMPLATE: Final = MAX_ARGUMENT
#: Most expressions in one text: each is compiled.
MAX_EXPRESSIONS: Final = 100
#: So many literal ``{{`` may stand in a text: each costs a look ahead.
_MAX_UNCLOSED = 200

#: How alike two names are of which one may be meant for the other, and how many are compared letter by letter.
_CLOSE, _COMPARED = 0.6, 5

_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_OPENING = re.compile(r"\\\{|\$\{|\{")
_SINGLE = re.compile(r"\{(" + _NAME + r")\}")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The parts of an expression that matter for finding its end.
_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\}\}|[\[({})\]]""", re.DOTALL)
_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})


class TemplateError(InvalidInput):
    """A placeholder cannot be read or filled."""

    def __init__(self, message: str, *, offset: int = 0, remedy: str | None = None) -> None:
        super().__init__(message)
        #: Where in the text, in characters.
        self.offset = offset
        #: The text to write instead.
        self.remedy = remedy


class Slot:
    """A place that one value fills."""

    __slots__ = ("leading", "name", "names", "offset")

    def __init__(self, name: str, offset: int) -> None:
        self.name, self.offset = name, offset
        self.names = self.leading = frozenset({name})

    def text(self, scope: Mapping[str, JsonValue]) -> str:
        """Return the text that fills it."""
        try:
            value = scope[self.name]
        except KeyError:
            raise TemplateError(f"there is no value for {{{self.name}}}", offset=self.offset) from None
        return value if type(value) is str else to_text(value)


class Computed:
    """A place that an expression fills."""

    __slots__ = ("_expression", "leading", "names", "offset")

    def __init__(self, expression: Expression, offset: int) -> None:
        self._expression, self.offset = expression, offset
        self.names, self.leading = expression.names, expression.leading
        if not self.names:
            self.text({})

    def text(self, scope: Mapping[str, JsonValue]) -> str:
        """Return the text that fills it."""
        try:
            return to_text(self._expression.find_value(scope))
        except (ExpressionError, ValueError, TypeError, RecursionError) as error:
            source = self._expression.source.strip()
            raise TemplateError(f"{{{{ {source} }}}} cannot be evaluated: {error}", offset=self.offset) from error


Part = str | Slot | Computed


class Template:
    """A text with places to fill. Safe for any thread."""

    __slots__ = ("_constant", "_parts", "leading", "names", "source")

    def __init__(self, source: str, parts: Iterable[Part]) -> None:
        self.source = source
        self._parts = tuple(_join_parts(parts))
        slots = [part for part in self._parts if not isinstance(part, str)]
        self._constant = None if slots else "".join(part for part in self._parts if isinstance(part, str))
        #: Names whose values it takes.
        self.names: frozenset[str] = frozenset().union(*(slot.names for slot in slots))
        first = self._parts[0] if self._parts else ""
        #: The input whose value begins the text; None when the text begins by itself or with a computed value.
        self.leading: str | None = first.name if isinstance(first, Slot) else None

    def render_text(self, scope: Mapping[str, JsonValue]) -> str:
        """Return the text with every place filled; raise TemplateError where a value is missing or does not fit."""
        if self._constant is not None:
            return self._constant
        texts: list[str] = []
        size = 0
        for part in self._parts:
            text = part if isinstance(part, str) else part.text(scope)
            size += len(text)
            if size > MAX_TEMPLATE:
                raise TemplateError(f"the value of {_list_names(self.names)} holds more than {MAX_TEMPLATE} bytes")
            texts.append(text)
        return "".join(texts)

    def opened_by(self, scope: Mapping[str, JsonValue]) -> frozenset[str]:
        """Return the names whose values made the first character of the rendered text; empty: its author wrote it."""
        for part in self._parts:
            if isinstance(part, str):
                return frozenset()
            if part.text(scope):
                return part.leading
        return frozenset()

    def offset_of(self, name: str) -> int:
        """Return where the first place stands that takes a name, in characters; 0 when none does."""
        return next((part.offset for part in self._parts if not isinstance(part, str) and name in part.names), 0)


def _join_parts(parts: Iterable[Part]) -> list[Part]:
    """Return the parts with neighbouring literals made one and empty ones left out."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        elif part != "":
            joined.append(part)
    return joined


def compile_template(text: str, known: Collection[str] | None) -> Template:
    """Read a text; `known` are the names that may stand in it (None: any), the builtin ones must be among them.

    Raises TemplateError with the place of the first mistake and what to write instead.
    """
    if "{" not in text:
        return Template(text, [text])
    if len(text) > MAX_TEMPLATE:
        raise TemplateError(f"the text is longer than {MAX_TEMPLATE} characters")
    parts: list[Part] = []
    position = 0
    closings = _find_closings(text) if "${" in text else {}
    unclosed = computed = 0
    while match := _OPENING.search(text, position):
        parts.append(text[position : match.start()])
        part, position = _read_placeholder(text, match, closings)
        if known is not None and not isinstance(part, str):
            _check_names(part, known)
        if part == "{" and text.startswith("{{", match.start()):
            unclosed += 1
            if unclosed > _MAX_UNCLOSED:
                raise TemplateError("too many '{{' that are not closed", offset=match.start(), remedy="write \\{\\{")
        computed += isinstance(part, Computed)
        if computed > MAX_EXPRESSIONS:
            raise TemplateError(
                f"more than {MAX_EXPRESSIONS} expressions", offset=match.start(), remedy="write a script"
            )
        parts.append(part)
    parts.append(text[position:])
    return Template(text, _merge_runs(parts))


def _merge_runs(parts: list[Part]) -> Iterable[Part]:
    """Yield the parts with runs of literals joined at once: a text of braces alone has very many of them."""
    run: list[str] = []
    for part in parts:
        if isinstance(part, str):
            run.append(part)
            continue
        yield "".join(run)
        run.clear()
        yield part
    yield "".join(run)


def _read_placeholder(text: str, match: re.Match[str], closings: Mapping[int, int]) -> tuple[Part, int]:
    """Return the part that begins at an opening brace and where the text goes on."""
    start = match.start()
    if match[0] == "\\{":
        return "{", match.end()
    if match[0] == "${":
        end = closings.get(start + 1, start + 1) + 1
        return text[start:end], end
    if text.startswith("{{", start) and not text.startswith("{{{", start):
        found = _read_double(text, start)
        if found is not None:
            return found
    if (single := _SINGLE.match(text, start)) is not None:
        return Slot(single[1], start), single.end()
    return "{", start + 1


def _read_double(text: str, start: int) -> tuple[Part, int] | None:
    """Return the place that ``{{`` opens, or None when the braces are literal."""
    end = _expression_end(text, start + 2)
    if end is None:
        return None
    source = text[start + 2 : end]
    content = source.strip()
    if not content or content.startswith("."):
        return text[start : end + 2], end + 2
    if _PLAIN.fullmatch(content) and content not in _CONSTANTS:
        return Slot(content, start), end + 2
    try:
        return Computed(Expression(source), start), end + 2
    except ExpressionError as error:
        raise TemplateError(
            f"{{{{ {_shorten_text(content)} }}}} is not an expression: {error}",
            offset=start,
            remedy="for literal braces write \\{\\{",
        ) from error


def _expression_end(text: str, start: int) -> int | None:
    """Return where the ``}}`` stands that closes an expression, not one within its quotes or brackets."""
    depth = 0
    for token in _TOKEN.finditer(text, start, start + MAX_SOURCE + 2):
        if token[0] == "}}" and depth == 0:
            return token.start()
        if token[0] in "[({":
            depth += 1
        elif token[0] in "])}":
            depth -= 1
            if depth < 0:
                return None
        elif token[0] == "}}":
            if depth == 1:
                # "}}}": the first brace closes a mapping, the expression ends behind it.
                return token.start() + 1 if text.startswith("}}}", token.start()) else None
            depth -= 2
    return None


def _find_closings(text: str) -> dict[int, int]:
    """Return for every opening brace that is closed where its partner stands."""
    open_braces: list[int] = []
    partners: dict[int, int] = {}
    for match in re.finditer(r"[{}]", text):
        if match[0] == "{":
            open_braces.append(match.start())
        elif open_braces:
            partners[open_braces.pop()] = match.start()
    return partners


def _check_names(part: Slot | Computed, known: Collection[str]) -> None:
    unknown = sorted(part.names - frozenset(known))
    if not unknown:
        return
    name = unknown[0]
    head = re.split(r"[.-]", name)[0]
    guess = suggest_name(name, known)
    if isinstance(part, Slot) and head != name and head in known:
        remedy = f"for an expression write {{{{ {name} }}}}"
    elif guess is not None:
        remedy = f"did you mean {{{guess}}}?"
    else:
        remedy = "declare it under input"
    if isinstance(part, Slot):
        remedy += f" (for a literal brace write \\{{{name}}})"
    raise TemplateError(f"{name!r} is not an input", offset=part.offset, remedy=remedy)


def suggest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was most likely meant."""
    return None if len(name) > 100 else _find_closest(name, tuple(sorted(known)[:500]))


@lru_cache(maxsize=256)
def _find_closest(name: str, known: tuple[str, ...]) -> str | None:
    by_fold = {candidate.casefold(): candidate for candidate in known}
    matcher = difflib.SequenceMatcher(b=name.casefold())

    def measure(fold: str, ratio: Callable[[], float]) -> float:
        matcher.set_seq1(fold)
        return ratio()

    # What letters two names share is counted fast; where they stand is compared for the best of them alone.
    likely = nlargest(_COMPARED, by_fold, key=lambda fold: measure(fold, matcher.quick_ratio))
    ratio, fold = max(((measure(fold, matcher.ratio), fold) for fold in likely), default=(0.0, ""))
    return by_fold[fold] if ratio >= _CLOSE else None


def to_text(value: object) -> str:
    """Return a value as it stands in a command: true and false, numbers, nothing for None, else compact JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_number(text: str) -> bool:
    """Tell whether a text is a plain decimal number."""
    return len(text) <= 100 and _NUMBER.fullmatch(text) is not None


def check_argument(text: str, names: Iterable[str] = ()) -> None:
    """Raise InvalidInput when the kernel would not take the text; `names` are the inputs that it was made of."""
    fault = None
    if "\0" in text:
        fault = "a NUL character"
    elif _SURROGATE.search(text):
        fault = "half of a surrogate pair"
    elif len(text) > MAX_ARGUMENT // 4 and len(text.encode()) > MAX_ARGUMENT:
        fault = f"more than {MAX_ARGUMENT} bytes"
    if fault is not None:
        raise InvalidInput(f"the value of {_list_names(names)} holds {fault}")


def render_argument(template: Template, scope: Mapping[str, JsonValue], leading_dash: Collection[str] = ()) -> str:
    """Return an argument that can be handed to a command.

    Raises InvalidInput when the kernel would not take it, or when values that are not in `leading_dash` (and are no
    numbers) made it begin with a dash, where a command would read an option.
    """
    text = template.render_text(scope)
    if not template.names:
        return text
    check_argument(text, template.names)
    if text.startswith("-") and not is_number(text):
        refused = template.opened_by(scope) - frozenset(leading_dash)
        if refused:
            raise InvalidInput(f"the value of {_list_names(refused)} begins with '-' and would be read as an option")
    return text


def _list_names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "an argument"


def _shorten_text(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."
