"""Remedies for text that YAML cannot read, or reads otherwise than people mean it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: Text that YAML takes as it is, in a list too.
_HARMLESS = re.compile(r"[A-Za-z0-9_./=+-]*[A-Za-z0-9_/]")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
_LONGEST_LINE = 200


def quote_text(text: str) -> str:
    """Return a text as YAML takes it in quotes."""
    if "'" not in text:
        return f"'{text}'" if '"' in text or "\\" in text else f'"{text}"'
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_list(items: Sequence[str]) -> str:
    """Return a list of texts in one line of YAML."""
    return "[" + ", ".join(_write_item(item) for item in items) + "]"


def _write_item(text: str) -> str:
    plain = _HARMLESS.fullmatch(text) and text.lower() not in _WORDS and not re.fullmatch(r"[-+.\d]+", text)
    return text if plain and text != "-" else quote_text(text)


def suggest_remedy(problem: str, text: str, index: int) -> str | None:
    """Return what to write instead of the line in which a parser has met a problem at an index of the text."""
    start = text.rfind("\n", 0, index) + 1
    line = text[start:].split("\n", 1)[0]
    if text[index : index + 1] == "\t" or line.startswith("\t"):
        return "indent with spaces, not with tabs"
    if "unknown escape" in problem and (found := _find_double_quoted(line, index - start)) is not None:
        return f"write '{found}': in double quotes a backslash has a meaning of its own"
    if (remedy := _quote_items(line)) is not None:
        return remedy
    if (remedy := _indent_line(text[:start].split("\n")[:-1], line, text[start + len(line) :])) is not None:
        return remedy
    item = re.match(r"\s*(- +|[\w.-]+: +)([{\[@`%&*!|>].*)", line)
    if item is not None and len(line) < _LONGEST_LINE:
        return f"put quotes around it: {item[1].strip()} '{item[2].strip()}'"
    if "mapping values" in problem:
        return "put quotes around text that holds ': '"
    return "put quotes around the text" if "token" in problem else None


def _find_double_quoted(line: str, at: int) -> str | None:
    """Return what stands in the double quotes around a place of a line."""
    for found in re.finditer(r'"([^"]*)"', line):
        if found.start() <= at <= found.end() and "'" not in found[1]:
            return found[1]
    return None


def _quote_items(line: str) -> str | None:
    """Return a line's list with quotes around what begins with a placeholder and goes on; None: there is no such."""
    found = re.fullmatch(r"\s*((?:- +)?(?:[\w.-]+: +)?)\[(.*)\]\s*(?:#.*)?", line)
    if found is None or len(line) > _LONGEST_LINE:
        return None
    items = list(_split_items(found[2]))
    wrong = [item for item in items if re.match(r"\{[^}]*\}.", item)]
    if not wrong:
        return None
    return f"write {found[1]}[{', '.join(quote_text(item) if item in wrong else item for item in items)}]"


def _split_items(text: str) -> Iterator[str]:
    """Yield the items of a list in one line; commas in quotes and brackets part none."""
    item, quote, depth = "", "", 0
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not item.strip():
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            yield item.strip()
            item = ""
            continue
        item += character
    yield item.strip()


def _indent_line(before: Sequence[str], line: str, after: str) -> str | None:
    """Return how far in a line has to begin; None if it begins like a line before, or may begin deeper."""
    if not re.match(r"\s*(- |[\w.-]+:( |$))", line):
        return None
    levels = _list_levels(before)
    if not levels:
        return None
    here, (deepest, number, opens) = _measure_indent(line), levels[-1]
    if any(here == level for level, _, _ in levels) or (here > deepest and opens):
        return None
    # The nearest of the lines that are open here; what stands inside the line begins deeper than the line.
    inner = re.match(r"\s*\n( *)\S", after) if line.rstrip().endswith(":") else None
    fitting = [one for one in levels if inner is None or one[0] < len(inner[1])] or levels
    level, number, _ = min(reversed(fitting), key=lambda one: abs(one[0] - here)) if here < deepest else fitting[-1]
    return f"begin it with {level} spaces, as line {number} does"


def _list_levels(lines: Sequence[str]) -> list[tuple[int, int, bool]]:
    """Return how far in the open tables and lists begin, the line of each, and whether something may follow inside."""
    levels: list[tuple[int, int, bool]] = []
    block = -1
    for number, line in enumerate(lines, start=1):
        indent = _measure_indent(line)
        if not line.strip() or line.lstrip().startswith("#") or (0 <= block < indent):
            continue
        block = indent if re.search(r"[:-] +[|>][-+0-9]*\s*(#.*)?$", line) else -1
        starts = [indent]
        while line[indent : indent + 2] == "- ":
            indent += 2 + len(line[indent + 2 :]) - len(line[indent + 2 :].lstrip())
            if line[indent : indent + 1] not in ("[", "{"):
                starts.append(indent)
        opens = bool(re.search(r":\s*(#.*)?$", line))
        for start in starts:
            while levels and levels[-1][0] >= start:
                levels.pop()
            levels.append((start, number, opens))
    return levels


def _measure_indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
