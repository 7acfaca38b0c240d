"""From a tree to plain values, read as people mean them: text stays as it is written, small slips are put right.

Keeps the place of every value for the checks that follow, and collects mistakes and warnings. Raises only
`DocumentRefused`, when aliases make the document too large.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from echelon.controller.catalogue.composing import MAX_DEPTH, DocumentRefused
from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.keys import keys_of, walk_keys
from echelon.controller.catalogue.kinds import Anything, Argument
from echelon.controller.catalogue.mistakes import Mistake
from echelon.controller.catalogue.remedies import quote_text
from echelon.controller.catalogue.task_classes import TaskClass
from echelon.controller.catalogue.tree import Leaf, Listing, Node, Path, SourceText, Table, join_path
from echelon.shared.expressions import to_text

#: So many values of a file may come from aliases.
MAX_REPEATED = 50_000

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_KEYS = tuple(walk_keys(Catalogue))
#: Keys whose values are not text.
_VALUE_KEYS = frozenset(one.name for one in _KEYS if not one.kind.textual)
#: Keys whose values are read as their input's type says.
_AS_WRITTEN = frozenset(one.name for one in _KEYS if isinstance(one.kind.single, Anything))
#: Keys of a task whose values hold placeholders -> how deep they stand.
_ARGUMENT_DEPTHS = {
    name: 3 if one.kind.textual else 4
    for name, one in keys_of(TaskClass).items()
    if isinstance(one.kind.single, Argument)
}


@dataclass
class Reading:
    """The content of one file."""

    source: SourceText
    data: dict[str, object] = field(default_factory=dict)
    #: Where each value begins, as an index of the text.
    values: dict[Path, int] = field(default_factory=dict)
    #: Where each key stands; for items of a list, where the item begins.
    keys: dict[Path, int] = field(default_factory=dict)
    #: Where each text ends.
    ends: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    #: Some of the file could not be read.
    broken: bool = False
    _count: int = 0
    _limit: int = MAX_REPEATED

    def add_mistake(self, index: int, message: str, remedy: str | None = None) -> None:
        """Note what is wrong at a place of the text."""
        self.mistakes.append(self._make_mistake(index, message, remedy))

    def add_warning(self, index: int, message: str, remedy: str | None = None) -> None:
        """Note what could be better at a place of the text."""
        self.warnings.append(self._make_mistake(index, message, remedy))

    def _make_mistake(self, index: int, message: str, remedy: str | None) -> Mistake:
        line, column = self.source.line_and_column(index)
        return Mistake(self.source.file, line, column, message, remedy)

    def find_key(self, path: Path) -> int:
        """Return where a key stands, or the nearest thing around it that stands in the file."""
        while path and path not in self.keys:
            path = path[:-1]
        return self.keys.get(path, 0)

    def find_value(self, path: Path) -> int:
        """Return where a value begins, or the nearest thing around it that stands in the file."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, 0)

    def find_text(self, path: Path, text: str, offset: int) -> int:
        """Return where a piece of a text stands; where its value begins, when it is not written the same way there."""
        start, end = self.find_value(path), self.ends.get(path, 0)
        found = self.source.text.find(text[offset : offset + 20].splitlines()[0], start, end) if text[offset:] else -1
        return start if found < 0 else found

    # --- reading

    def read_document(self, node: Node, size: int) -> None:
        """Take in one document of so many values; further documents add to the same tasks and jobs."""
        self._limit += size
        if isinstance(node, Leaf) and _plain_value(node) is None:
            return
        if not isinstance(node, Table):
            self.add_mistake(node.start, "a catalogue is a mapping of `tasks:` and `jobs:`")
            return
        document = self._read_table(node, ())
        for section, content in document.items():
            present = self.data.get(section)
            if isinstance(present, dict) and isinstance(content, dict):
                self._add_to(section, present, content)
            elif present is None:
                self.data[section] = content

    def _add_to(self, section: str, present: dict[str, object], content: dict[str, object]) -> None:
        for name in present.keys() & content.keys():
            self.add_mistake(self.find_key((section, name)), f"{name!r} is defined twice", "give it another name")
        present.update(content)

    def _read_value(self, node: Node, path: Path) -> object:
        self._count_values(1, node)
        if len(path) > MAX_DEPTH:
            raise DocumentRefused(f"nested more than {MAX_DEPTH} deep", node.start)
        self.values[path], self.ends[path] = node.start, node.end
        self._warn_of_windows_path(node)
        if _is_argument(path):
            return self._read_argument(node, path)
        if isinstance(node, Leaf):
            return self._read_leaf(node, path)
        if isinstance(node, Listing):
            return self._read_listing(node, path)
        return self._read_table(node, path)

    def _warn_of_windows_path(self, node: Node) -> None:
        r"""Warn of "C:\temp": in double quotes YAML makes a tab of \t."""
        written = self.source.text[node.start : node.end]
        if isinstance(node, Leaf) and re.match(r'"[A-Za-z]:\\[^\\]', written) and "'" not in written:
            message = "in double quotes a backslash has a meaning of its own: \\t is a tab"
            self.add_warning(node.start, message, f"write '{written[1:-1]}'")

    def _count_values(self, more: int, node: Node) -> None:
        self._count += more
        if self._count > self._limit:
            message = f"the aliases bring in more than {MAX_REPEATED} values"
            raise DocumentRefused(message, node.start, "write the values out")

    def _read_listing(self, node: Listing, path: Path) -> list[object]:
        values = []
        for index, item in enumerate(node.items):
            self.keys[(*path, index)] = item.start
            values.append(self._read_value(item, (*path, index)))
        return values

    def _read_table(self, node: Table, path: Path) -> dict[str, object]:
        table: dict[str, object] = {}
        for key, value in self._own_entries(node):
            if key.text in table:
                first = self.source.line_and_column(self.keys[(*path, key.text)])[0]
                self.add_mistake(key.start, f"the key {key.text!r} stands twice", f"the first is in line {first}")
                continue
            self.keys[(*path, key.text)] = key.start
            table[key.text] = self._read_value(value, (*path, key.text))
        for key, value in self._merged_entries(node):
            if key.text not in table:
                self.keys[(*path, key.text)] = key.start
                table[key.text] = self._read_value(value, (*path, key.text))
        return table

    def _own_entries(self, node: Table) -> Iterator[tuple[Leaf, Node]]:
        """Yield a table's own entries; what has no text as its key is a mistake."""
        for key, value in node.entries:
            if not isinstance(key, Leaf):
                text = self.source.text[node.start : node.end]
                remedy = f"write {quote_text(text)}" if node.flow and "\n" not in text else None
                self.add_mistake(node.start, "a key must be text", remedy)
            elif not key.text:
                self.add_mistake(key.start, "a key is empty")
            elif not (key.plain and key.text == "<<"):
                yield key, value

    def _merged_entries(self, node: Table, depth: int = 0) -> Iterator[tuple[Leaf, Node]]:
        """Yield what `<<` brings in, the nearest first."""
        for key, value in node.entries:
            if not (isinstance(key, Leaf) and key.plain and key.text == "<<"):
                continue
            for table in value.items if isinstance(value, Listing) else (value,):
                if not isinstance(table, Table) or depth > MAX_DEPTH:
                    self.add_mistake(key.start, "<< takes a mapping, or a list of mappings")
                    continue
                self._count_values(1 + len(table.entries), node)
                yield from self._own_entries(table)
                yield from self._merged_entries(table, depth + 1)

    def _read_leaf(self, leaf: Leaf, path: Path) -> object:
        if not leaf.plain:
            return leaf.text
        value = _plain_value(leaf)
        key = next((step for step in reversed(path) if isinstance(step, str)), "")
        if key in _AS_WRITTEN:
            return value if value is None or to_text(value) == leaf.text else leaf.text
        if value is None or key in _VALUE_KEYS:
            return value
        return leaf.text

    # --- commands, arguments and variables: what is written is what is meant

    def _read_argument(self, node: Node, path: Path) -> object:
        if isinstance(node, Leaf):
            if node.block:
                return self._read_block(node)
            return node.text if node.text or not node.plain else None
        text = self.source.text[node.start : node.end]
        if isinstance(node, Table) and node.flow and _is_placeholder(node):
            self.add_warning(node.start, f"{text} without quotes is a mapping in YAML", f"write {quote_text(text)}")
            return text
        remedy = f"write {quote_text(text)}" if "\n" not in text and len(text) < 200 else "put quotes around it"
        self.add_mistake(node.start, f"{join_path(path)}: must be text", remedy)
        return ""

    def _read_block(self, leaf: Leaf) -> str:
        """Return a block's text without its last newline, and without quotes that YAML takes literally."""
        header = self.source.text[leaf.start : leaf.end].split("\n", 1)[0].split("#", 1)[0]
        if "+" in header:
            return leaf.text
        text = leaf.text.removesuffix("\n")
        if len(text) >= 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
            text = text[1:-1]
            message = "quotes within a block belong to the text; they were taken off"
            self.add_warning(leaf.start, message, f"write {quote_text(text)} without {header.strip()}")
        elif text != leaf.text and "\n" not in text:
            message = "a block ends with a newline; it was taken off"
            self.add_warning(leaf.start, message, f"write {quote_text(text)} without {header.strip()}")
        return text


def _plain_value(leaf: Leaf) -> str | int | float | bool | None:
    """Return what an unquoted scalar means in YAML 1.2: no `yes`, no octal, no base 60, no dates."""
    if not leaf.plain:
        return leaf.text
    if leaf.text in _WORDS:
        return _WORDS[leaf.text]
    if _INTEGER.fullmatch(leaf.text):
        return int(leaf.text)
    if _FLOAT.fullmatch(leaf.text):
        return float(leaf.text)
    return leaf.text


def _is_argument(path: Path) -> bool:
    """Tell whether a path leads to a command, an argument or a variable of a task."""
    return len(path) > 2 and path[0] == "tasks" and _ARGUMENT_DEPTHS.get(str(path[2])) == len(path)


def _is_placeholder(table: Table) -> bool:
    """Tell whether a mapping is what YAML makes of `{name}` or `{{ name }}`: one key, without a value."""
    return len(table.entries) == 1 and _holds_only_keys(table)


def _holds_only_keys(node: Node) -> bool:
    if isinstance(node, Table):
        return all(
            isinstance(value, Leaf) and value.plain and not value.text and _holds_only_keys(key)
            for key, value in node.entries
        )
    return isinstance(node, Leaf)
